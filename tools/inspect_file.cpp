// Summary, keys and tensors: works on every GGUF file, also on vocabulary-only ones and on architectures that moe cannot run.
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "models/arch.h"
#include "models/io/gguf_format.h"
#include "models/routing.h"
#include "models/specialise.h"
#include "tools/inspect.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

int64_t count_elements(std::span<const int64_t> shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

// What the metadata makes of the file; `status` says why when it is no model that moe can run.
struct Described {
  ModelConfig config;
  const ArchDef* arch = nullptr;
  Status status;
  int64_t cache_bytes = 0;  // of one token, f16
};

// The caches of a graph with one slot and one position.
Result<int64_t> cache_bytes_per_token(const ModelConfig& config) {
  GraphOptions one;
  one.n_ctx = 1;
  MOE_ASSIGN(const ModelGraph g, build_graph(config, one, nullptr));
  int64_t elements = 0;
  for (const CacheValues& c : g.caches) {
    for (const ValueId v : {c.k, c.v}) elements += v == kNone ? 0 : g.graph.value(v).shape.elements();
  }
  return static_cast<int64_t>(dtype_bytes(DType::kF16, elements));
}

Status describe(const GgufFile& file, Described& d) {
  MOE_ASSIGN(d.config.arch, file.metadata().get<std::string>("general.architecture"));
  MOE_ASSIGN(d.arch, find_arch(d.config.arch));
  MOE_ASSIGN(d.config, read_config(file.metadata()));
  MOE_TRY(d.arch->configure(d.config, file.name()));
  const TensorInfo* embedding = file.find("token_embd.weight");
  if (!embedding || embedding->shape.size() != 2) return Status::NotFound("there are no weights in it");
  d.config.n_vocab = static_cast<int>(std::min<int64_t>(embedding->shape[0], 1 << 24));
  MOE_ASSIGN(d.cache_bytes, cache_bytes_per_token(d.config));
  return Status::Ok();
}

struct TypeTotal {
  int tensors = 0;
  int64_t elements = 0;
  uint64_t bytes = 0;
};

struct Totals {
  std::map<std::string, TypeTotal> types;  // by name; foreign types have no bytes
  int64_t parameters = 0, active = 0;      // active: what one token is multiplied with
  size_t tensors = 0;
};

Totals count(const GgufFile& file, const ModelConfig& c) {
  Totals t;
  const auto add = [&](const std::string& name, std::span<const int64_t> shape, const std::string& type, uint64_t bytes) {
    const int64_t n = count_elements(shape);
    TypeTotal& total = t.types[type];
    ++total.tensors, total.elements += n, total.bytes += bytes;
    ++t.tensors, t.parameters += n;
    const bool routed = name.find("_exps.") != std::string::npos && c.n_expert > 0 && !shape.empty() && shape[0] > 0;
    t.active += routed ? n / shape[0] * std::min<int64_t>(c.n_expert_used, shape[0]) : n;
  };
  for (const TensorInfo& i : file.tensors()) add(i.name, i.shape, traits(i.dtype).name, i.data.size());
  for (const UnsupportedTensor& u : file.unsupported()) add(u.name, u.shape, u.type_name, 0);
  return t;
}

double bits_a_weight(const TypeTotal& t) { return 8.0 * static_cast<double>(t.bytes) / static_cast<double>(t.elements); }

std::string tokenizer_text(const Metadata& m) {
  const auto model = m.get<std::string>("tokenizer.ggml.model");
  if (!model.ok()) return "none";
  const MetadataEntry* tokens = m.find("tokenizer.ggml.tokens");
  const std::string n = tokens && tokens->type == GgufType::kArray ? format_grouped(static_cast<int64_t>(tokens->count)) : "no";
  const auto pre = m.get<std::string>("tokenizer.ggml.pre");
  return printable(*model) + (pre.ok() ? " (" + printable(*pre) + ")" : "") + ", " + n + " tokens";
}

std::string number(int64_t n) { return std::to_string(n); }

std::string layers_text(const ModelConfig& c) {
  std::string text = number(c.n_layer) + " of width " + number(c.d_model) + ", " + number(c.n_head) + " heads";
  if (c.kv_rank > 0) return text + ", keys and values in a latent of " + number(c.kv_rank) + " + " + number(c.rope_dims);
  return text + " of " + number(c.head_dim) + ", " + number(c.n_kv_head) + " for keys and values";
}

std::string range(int low, int high) { return low == high ? number(high) : number(low) + "-" + number(high); }

// Of a file that moe-quantize --topology wrote: where it comes from, oldest first, and whether it was changed since.
struct Lineage {
  std::vector<std::string> models, topologies;
  std::string hash;  // as it was written; "" of other files
};
Lineage lineage_of(const Metadata& m) {
  Lineage l;
  if (auto v = m.get_array<std::string>(kSpecialisedModels); v.ok()) l.models = *v;
  if (auto v = m.get_array<std::string>(kSpecialisedTopologies); v.ok()) l.topologies = *v;
  if (auto v = m.get<std::string>(kSpecialisedHash); v.ok()) l.hash = *v;
  return l;
}

std::string lineage_text(const Lineage& l) {
  std::string text;
  for (size_t i = 0; i < std::min(l.models.size(), l.topologies.size()); ++i)
    text += (i ? ", then " : "") + std::string("from model ") + printable(l.models[i]) + " by topology " +
            printable(l.topologies[i]);
  return text;
}

std::string experts_text(const ModelConfig& c) {
  if (c.n_expert == 0) return "none, dense layers of width " + number(c.d_ff);
  int fewest = c.n_expert, narrowest = c.d_ff_expert, without = -c.n_dense_lead;
  for (const LayerExperts& l : c.layer_experts) {
    without += l.n == 0;
    if (l.n > 0) fewest = std::min(fewest, l.n);
    if (l.n > 0 && l.d_ff > 0) narrowest = std::min(narrowest, l.d_ff);
  }
  std::string text =
      range(fewest, c.n_expert) + " of width " + range(narrowest, c.d_ff_expert) + ", " + number(c.n_expert_used) + " used";
  if (without > 0) text += ", none in " + number(without) + " layers";
  if (c.d_ff_shared > 0) text += ", shared width " + number(c.d_ff_shared);
  if (c.n_dense_lead > 0) text += ", first " + number(c.n_dense_lead) + " layers dense of width " + number(c.d_ff);
  return text;
}

void print_summary(const GgufFile& file, const Described& d, const Totals& t) {
  using enum Table::Align;
  Table out({kLeft, kLeft});
  const ModelConfig& c = d.config;
  const auto arch = file.metadata().get_or<std::string>("general.architecture", "none");
  out.row({"file", file.name()});
  out.row({"size", format_bytes(static_cast<double>(file.file_bytes())) + ", GGUF v" + number(file.version()) + ", " +
                       number(static_cast<int64_t>(file.metadata().entries().size())) + " keys, " +
                       number(static_cast<int64_t>(t.tensors)) + " tensors"});
  out.row({"architecture", (arch.ok() ? printable(*arch) : "?") + (d.arch ? std::string(": ") + d.arch->description : "")});
  if (!c.name.empty()) out.row({"name", printable(c.name)});
  if (d.status.ok()) {
    const auto count_of = [](int64_t n) { return format_count(static_cast<double>(n)); };
    out.row({"parameters", count_of(t.parameters) + ", " + count_of(t.active) + " active per token"});
    out.row({"layers", layers_text(c)});
    out.row({"experts", experts_text(c)});
    if (file.metadata().has(kTopologyKey)) out.row({"topology", "its own: 'moe-inspect MODEL topology' shows it"});
    out.row({"context", format_grouped(c.n_ctx_train) + " positions, " + format_bytes(static_cast<double>(d.cache_bytes)) +
                            " of f16 cache per token"});
  }
  out.row({"tokenizer", tokenizer_text(file.metadata())});
  const std::string hash = t.tensors > 0 ? hash_to_hex(file.content_hash()) : "";
  if (!hash.empty()) out.row({"hash", hash});
  if (const Lineage l = lineage_of(file.metadata()); !l.hash.empty())
    out.row({"specialised", lineage_text(l) + (l.hash == hash ? "" : ", its weights changed since")});
  std::fputs(out.text().c_str(), stdout);

  Table types({kLeft, kRight, kRight, kRight, kRight});
  if (!t.types.empty()) types.row({"type", "tensors", "weights", "bytes", "bits/weight"});
  for (const auto& [name, total] : t.types) {
    const bool known = total.bytes > 0;
    types.row({name, number(total.tensors), format_count(static_cast<double>(total.elements)),
               known ? format_bytes(static_cast<double>(total.bytes)) : "?",
               known ? format_fixed(bits_a_weight(total), 2) : "?"});
  }
  if (!t.types.empty()) std::printf("\n%s", types.text().c_str());
  if (!d.status.ok()) std::printf("\nmoe cannot run it: %s\n", d.status.message().c_str());
}

Json summary_json(const GgufFile& file, const Described& d, const Totals& t) {
  const ModelConfig& c = d.config;
  Json json = {{"file", file.name()},
               {"file_bytes", file.file_bytes()},
               {"gguf_version", file.version()},
               {"n_keys", file.metadata().entries().size()},
               {"n_tensors", t.tensors},
               {"arch", c.arch},
               {"name", c.name},
               {"runs", d.status.ok()}};
  if (!d.status.ok()) json["reason"] = d.status.message();
  if (d.status.ok()) {
    json.update({{"parameters", t.parameters},
                 {"active_parameters", t.active},
                 {"n_layer", c.n_layer},
                 {"d_model", c.d_model},
                 {"n_head", c.n_head},
                 {"n_kv_head", c.n_kv_head},
                 {"n_expert", c.n_expert},
                 {"n_expert_used", c.n_expert_used},
                 {"d_ff", c.d_ff},
                 {"d_ff_expert", c.d_ff_expert},
                 {"d_ff_shared", c.d_ff_shared},
                 {"n_ctx_train", c.n_ctx_train},
                 {"n_vocab", c.n_vocab},
                 {"cache_bytes_per_token", d.cache_bytes}});
  }
  for (const LayerExperts& l : c.layer_experts)
    json["layer_experts"].push_back(
        {{"experts", l.n}, {"router_rows", l.rows}, {"width", l.n > 0 && l.d_ff == 0 ? c.d_ff_expert : l.d_ff}});
  json["tokenizer"] = tokenizer_text(file.metadata());
  json["types"] = Json::array();
  for (const auto& [name, total] : t.types) {
    json["types"].push_back({{"type", name}, {"tensors", total.tensors}, {"weights", total.elements}, {"bytes", total.bytes}});
  }
  if (t.tensors > 0) json["hash"] = hash_to_hex(file.content_hash());
  if (const Lineage l = lineage_of(file.metadata()); !l.hash.empty())
    json["specialised"] = {{"models", l.models}, {"topologies", l.topologies}, {"hash", l.hash}};
  if (file.metadata().has(kTopologyKey)) json["has_topology"] = true;
  return json;
}

// --- keys ---

template <class T>
Json array_json(const Metadata& m, const std::string& key, size_t most) {
  auto values = m.get_array<T>(key);
  if (!values.ok()) return Json();
  if (values->size() > most) values->resize(most);
  Json out = Json::array();
  for (const auto& v : *values) out.push_back(static_cast<T>(v));
  return out;
}

template <class T>
Json scalar_json(const Metadata& m, const std::string& key, size_t) {
  auto value = m.get<T>(key);
  return value.ok() ? Json(*value) : Json();
}

struct JsonOfType {
  GgufType type;
  Json (*scalar)(const Metadata&, const std::string&, size_t);
  Json (*array)(const Metadata&, const std::string&, size_t);
};
constexpr JsonOfType kJsonOfTypes[] = {
    {GgufType::kUint8, scalar_json<uint64_t>, array_json<uint64_t>},
    {GgufType::kInt8, scalar_json<int64_t>, array_json<int64_t>},
    {GgufType::kUint16, scalar_json<uint64_t>, array_json<uint64_t>},
    {GgufType::kInt16, scalar_json<int64_t>, array_json<int64_t>},
    {GgufType::kUint32, scalar_json<uint64_t>, array_json<uint64_t>},
    {GgufType::kInt32, scalar_json<int64_t>, array_json<int64_t>},
    {GgufType::kFloat32, scalar_json<double>, array_json<double>},
    {GgufType::kBool, scalar_json<bool>, array_json<bool>},
    {GgufType::kString, scalar_json<std::string>, array_json<std::string>},
    {GgufType::kUint64, scalar_json<uint64_t>, array_json<uint64_t>},
    {GgufType::kInt64, scalar_json<int64_t>, array_json<int64_t>},
    {GgufType::kFloat64, scalar_json<double>, array_json<double>},
};

// Arrays of arrays have no row in the table: their text is shown.
Json value_json(const Metadata& m, const MetadataEntry& e, size_t most) {
  const bool array = e.type == GgufType::kArray;
  for (const JsonOfType& row : kJsonOfTypes) {
    if (row.type == (array ? e.element_type : e.type)) return (array ? row.array : row.scalar)(m, e.key, most);
  }
  return value_text(e, std::numeric_limits<size_t>::max());
}

constexpr size_t kKeyColumns = 128, kFewElements = 16;

}  // namespace

Status inspect_summary(const Program& program, const std::string& path) {
  MOE_ASSIGN(const GgufFile file, GgufFile::open(path));
  Described d;
  d.status = describe(file, d);
  const Totals totals = count(file, d.config);
  if (program.json())
    print_json(summary_json(file, d, totals));
  else
    print_summary(file, d, totals);
  return Status::Ok();
}

Status inspect_keys(const Program& program, const std::string& path, bool full) {
  MOE_ASSIGN(const GgufFile file, GgufFile::open(path));
  const size_t most = full ? std::numeric_limits<size_t>::max() : kFewElements;
  Json json = Json::array();
  Table table({Table::kLeft, Table::kLeft, Table::kLeft});
  for (const MetadataEntry& e : file.metadata().entries()) {
    if (program.json()) {
      Json row = {{"key", e.key}, {"type", value_type_text(e)}, {"value", value_json(file.metadata(), e, most)}};
      if (e.type == GgufType::kArray) row["count"] = e.count;
      json.push_back(std::move(row));
    } else {
      table.row({printable(e.key), value_type_text(e), value_text(e, full ? most : kKeyColumns)});
    }
  }
  if (program.json())
    print_json(json);
  else
    std::fputs(table.text().c_str(), stdout);
  return Status::Ok();
}

Status inspect_tensors(const Program& program, const std::string& path) {
  MOE_ASSIGN(const GgufFile file, GgufFile::open(path));
  Json json = Json::array();
  Table table({Table::kLeft, Table::kLeft, Table::kLeft, Table::kRight});
  const auto add = [&](const std::string& name, const std::string& type, const std::vector<int64_t>& shape, Json bytes) {
    if (!program.json())
      table.row({printable(name), type, shape_text(shape), bytes.is_null() ? "?" : bytes.dump()});
    else
      json.push_back({{"name", name}, {"type", type}, {"shape", shape}, {"bytes", std::move(bytes)}});
  };
  for (const TensorInfo& t : file.tensors()) add(t.name, traits(t.dtype).name, t.shape, t.data.size());
  for (const UnsupportedTensor& u : file.unsupported()) add(u.name, u.type_name, u.shape, Json());
  if (program.json())
    print_json(json);
  else
    std::fputs(table.text().c_str(), stdout);
  return Status::Ok();
}

}  // namespace moe::tools

#include "tests/models/model_fixture.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/isa.h"
#include "core/rng.h"
#include "models/arch.h"

namespace moe::test {
namespace {

int64_t elements(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

// Mean and deviation of the weights of a role whose rows have n_in elements.
std::pair<float, float> distribution(Role role, int64_t n_in) {
  const auto inverse = 1 / std::sqrt(static_cast<float>(n_in));
  switch (role) {
    case Role::kNorm:
      return {1.0f, 0.1f};
    case Role::kBias:
      return {0.0f, 0.1f};
    case Role::kEmbedding:
      return {0.0f, 1.0f};
    case Role::kRouter:
      return {0.0f, 3 * inverse};
    default:
      return {0.0f, inverse};
  }
}

}  // namespace

FileTensor& ModelFile::tensor(std::string_view name) {
  for (FileTensor& t : tensors)
    if (t.name == name) return t;
  FAIL("no tensor " << name);
  return tensors.front();
}

bool ModelFile::has(std::string_view name) const {
  return std::any_of(tensors.begin(), tensors.end(), [&](const FileTensor& t) { return t.name == name; });
}

void ModelFile::remove(std::string_view name) {
  std::erase_if(tensors, [&](const FileTensor& t) { return t.name == name; });
}

std::string ModelFile::write(const TempFolder& folder, const std::string& name) const {
  const std::string path = folder / name;
  std::vector<GgufWriter::TensorSpec> specs;
  for (const FileTensor& t : tensors) specs.push_back({t.name, t.dtype, t.shape});
  auto writer = GgufWriter::create(path, metadata, std::move(specs));
  REQUIRE_MESSAGE(writer.ok(), writer.status().message());
  for (const FileTensor& t : tensors) {
    REQUIRE(static_cast<int64_t>(t.values.size()) == elements(t.shape));
    std::vector<std::byte> bytes(dtype_bytes(t.dtype, elements(t.shape)));
    traits(t.dtype).encode(t.values.data(), nullptr, bytes.data(), elements(t.shape));
    REQUIRE(writer->write_tensor(bytes.data(), bytes.size()).ok());
  }
  const Status done = writer->commit();
  REQUIRE_MESSAGE(done.ok(), done.message());
  return path;
}

ModelFile read_model(const std::string& path) {
  auto file = GgufFile::open(path);
  REQUIRE_MESSAGE(file.ok(), file.status().message());
  ModelFile m;
  m.metadata = file->metadata();
  for (const TensorInfo& t : file->tensors()) {
    FileTensor copy{t.name, t.shape, std::vector<float>(static_cast<size_t>(elements(t.shape))), t.dtype};
    traits(t.dtype).decode(t.data.data(), copy.values.data(), elements(t.shape));
    m.tensors.push_back(std::move(copy));
  }
  return m;
}

ModelFile random_model(const ModelConfig& config, uint64_t seed) {
  ModelFile m;
  ModelConfig settled = config;
  write_config(config, m.metadata);
  auto arch = find_arch(config.arch);
  REQUIRE(arch.ok());
  const Status configured = (*arch)->configure(settled, "random model");
  REQUIRE_MESSAGE(configured.ok(), configured.message());
  auto declared = declare_tensors(settled);
  REQUIRE_MESSAGE(declared.ok(), declared.status().message());
  uint64_t stream = 0;
  for (const DeclaredTensor& d : *declared) {
    FileTensor t;
    t.name = d.name;
    for (int i = 0; i < d.shape.rank; ++i) t.shape.push_back(d.shape[i]);
    t.values.resize(static_cast<size_t>(elements(t.shape)));
    const auto [mean, deviation] = distribution(d.role, d.shape.last());
    Rng rng(seed, stream++);
    for (float& x : t.values) x = mean + deviation * rng.normal();
    m.tensors.push_back(std::move(t));
  }
  return m;
}

ModelConfig tiny_config(const std::string& arch) {
  auto def = find_arch(arch);
  REQUIRE(def.ok());
  ModelConfig c = (*def)->example();
  const auto ratio = [&](int part) { return std::max(1, part * 64 / c.d_model); };
  c.n_layer = 2, c.n_vocab = 320;
  c.n_kv_head = std::max(1, 4 * c.n_kv_head / c.n_head), c.n_head = 4;
  c.head_dim = c.v_dim = 16, c.rope_dims = c.kv_rank ? 8 : 16;
  c.kv_rank = ratio(c.kv_rank) * (c.kv_rank > 0), c.q_rank = ratio(c.q_rank) * (c.q_rank > 0);
  c.d_ff = ratio(c.d_ff) * (c.d_ff > 0), c.d_ff_expert = ratio(c.d_ff_expert) * (c.d_ff_expert > 0);
  c.d_ff_shared = ratio(c.d_ff_shared) * (c.d_ff_shared > 0);
  c.d_model = 64, c.n_expert = 8, c.n_expert_used = 2;
  return c;
}

std::span<const char* const> reference_names() {
  static constexpr const char* kNames[] = {"olmoe",           "qwen2moe",   "qwen2moe-qkv",  "qwen3moe",         "granitemoe",
                                           "gpt-oss",         "mixtral",    "deepseek2",     "deepseek2-merged", "deepseek3",
                                           "deepseek3-split", "llama-bias", "llama-factors", "llama-tied"};
  return kNames;
}

std::string reference_path(const std::string& name) { return "tests/data/reference/" + name + ".gguf"; }

std::span<const Token> reference_tokens() {
  static constexpr Token kTokens[] = {10, 200, 33, 7, 99, 150, 3, 42, 101, 250, 11, 12, 13, 77, 8, 200};
  return kTokens;
}

std::vector<float> read_logits(const std::string& path) {
  auto file = MappedFile::open(path);
  REQUIRE_MESSAGE(file.ok(), file.status().message());
  std::vector<float> logits(file->bytes().size() / sizeof(float));
  std::memcpy(logits.data(), file->bytes().data(), logits.size() * sizeof(float));
  return logits;
}

std::unique_ptr<Model> load_model(const std::string& path, const Setup& setup) {
  ModelOptions o;
  o.backend_options.exact = setup.exact;
  o.backend_options.n_threads = setup.n_threads;
  o.backend_options.isa = setup.isa;
  auto model = Model::load(path, o);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return std::move(model).value();
}

SessionOptions roomy(int n_ctx, int n_seqs) {
  SessionOptions o;
  o.n_ctx = n_ctx, o.n_seqs = n_seqs, o.max_outputs = 32;
  o.cache_k = o.cache_v = DType::kF32;
  return o;
}

std::unique_ptr<Session> new_session(const Model& model, const SessionOptions& options) {
  auto session = Session::create(model, options);
  REQUIRE_MESSAGE(session.ok(), session.status().message());
  return std::move(session).value();
}

std::vector<float> run_tokens(Session& session, std::span<const Token> tokens, size_t step, int seq) {
  std::vector<float> all;
  for (size_t i = 0; i < tokens.size(); i += step) {
    std::vector<BatchToken> batch;
    for (size_t j = i; j < std::min(i + step, tokens.size()); ++j) batch.push_back({tokens[j], seq, true});
    const Status s = session.eval(batch);
    REQUIRE_MESSAGE(s.ok(), s.message());
    for (int r = 0; r < session.n_logits(); ++r) all.insert(all.end(), session.logits(r).begin(), session.logits(r).end());
  }
  return all;
}

std::vector<float> run_tokens(const Model& model, std::span<const Token> tokens, size_t step) {
  const auto session = new_session(model);
  return run_tokens(*session, tokens, step);
}

std::vector<float> run_reference(const Model& model) {
  return run_tokens(model, reference_tokens(), reference_tokens().size());
}

std::vector<Token> random_tokens(size_t n, int n_vocab, uint64_t seed) {
  Rng rng(seed);
  std::vector<Token> tokens(n);
  for (Token& t : tokens) t = static_cast<Token>(rng.below(static_cast<uint64_t>(n_vocab)));
  return tokens;
}

double nmse(std::span<const float> found, std::span<const float> wanted) {
  REQUIRE(found.size() == wanted.size());
  double error = 0, power = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double e = static_cast<double>(found[i]) - wanted[i];
    error += e * e, power += static_cast<double>(wanted[i]) * wanted[i];
  }
  return error / power;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

bool all_finite(std::span<const float> x) {
  return std::all_of(x.begin(), x.end(), [](float v) { return std::isfinite(v); });
}

std::vector<std::string> runnable_isas() {
  std::vector<std::string> names;
  for (const Isa isa : supported_isas(detect_cpu())) names.emplace_back(isa_name(isa));
  return names;
}

bool has_text(const Status& status, std::string_view part) { return status.message().find(part) != std::string::npos; }

bool is_one_line(const Status& status) {
  return !status.message().empty() && status.message().find('\n') == std::string::npos && status.message().size() < 2000;
}

}  // namespace moe::test

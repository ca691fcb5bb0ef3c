#include "tools/model_options.h"

#include <algorithm>
#include <map>

namespace moe::tools {
namespace {

int64_t elements(const TensorInfo& t) {
  int64_t n = 1;
  for (const int64_t d : t.shape) n *= d;
  return n;
}

// What is wrong with a topology somebody wrote, and where to read what would be right.
Status explained(const Status& status, const std::string& path) {
  if (status.code() == StatusCode::kIo || status.code() == StatusCode::kNotFound) return status;
  const std::string where = status.message().starts_with(path) ? "" : path + ": ";
  return Status::InvalidArgument(where + status.message() +
                                 "\n  models/TOPOLOGY.md has every field; 'moe-inspect MODEL topology' writes a valid one");
}

}  // namespace

void add_model_options(CLI::App& app, ModelArguments& a, bool required) {
  auto* model =
      app.add_option("MODEL", a.path, "GGUF file, or the first part of a split one, or a name that moe-run --zoo lists");
  if (required) model->required();
  app.add_option("--isa", a.isa,
                 "kernels to use: scalar, avx2, avx512, avx512_bf16, neon, …; default: the best this processor has");
  app.add_flag("--exact", a.exact, "keep activations in float32 instead of rounding them to int8 blocks or bfloat16");
  app.add_option("--cache-type", a.cache_type, "format of keys and values; auto: f32 for float32 models and --exact, else f16")
      ->check(CLI::IsMember({"auto", "f32", "f16", "q8_0"}))
      ->capture_default_str();
}

void add_topology_options(CLI::App& app, ModelArguments& a) {
  CLI::Option* topology = app.add_option("--topology", a.topology, "routing topology, a JSON file")->group("Routing");
  add_front_options(app, a.front);
  topology->excludes(app.get_option("--front"));
  app.add_option("--experts", a.experts, "experts a token uses in every layer")
      ->check(CLI::Range(1, kMostExperts))
      ->group("Routing");
  app.add_option("--expert-threshold", a.threshold, "drop experts whose score is below this share of the best one's")
      ->check(CLI::Range(0.0, 1.0))
      ->group("Routing");
  app.add_option("--width", a.width, "share of each expert's hidden channels that runs")
      ->check(CLI::Range(0.0, 1.0))
      ->group("Routing");
}

Result<std::optional<DType>> parse_cache_type(const std::string& name) {
  if (name == "auto") return std::optional<DType>();
  MOE_ASSIGN(const DType type, parse_dtype(name));
  return std::optional<DType>(type);
}

Result<std::unique_ptr<Model>> load_model(const Program& program, const ModelArguments& a, int n_threads) {
  ModelOptions options;
  options.backend_options = program.backend_options();
  options.backend_options.isa = a.isa;
  options.backend_options.exact = a.exact;
  if (n_threads > 0) options.backend_options.n_threads = n_threads;
  return Model::load(a.path, options);
}

Status pick_topology(const Program& program, ModelArguments& a) {
  if (a.front.front.empty()) return Status::Ok();
  MOE_ASSIGN(const FrontChoice choice, pick_from_front(program, a.front));
  a.topology = choice.topology, a.front_model = choice.model_hash;
  return Status::Ok();
}

Result<RoutingTopology> read_topology(const Model& model, const std::string& path) {
  Result<RoutingTopology> t = load_topology(path);
  if (!t.ok()) return explained(t.status(), path);
  if (const Status s = validate(*t, model.routing_shape()); !s.ok()) return explained(s, path);
  return t;
}

Result<RoutingTopology> make_topology(const Model& model, const ModelArguments& a) {
  const RoutingShape& shape = model.routing_shape();
  if (a.front_model && *a.front_model != model.hash())
    return Status::InvalidArgument(a.front.front + ": wanted a front of this model, " + hash_to_hex(model.hash()) +
                                   ", found one of " + hash_to_hex(*a.front_model));
  RoutingTopology t = model.topology();
  if (!a.topology.empty()) {
    MOE_ASSIGN(t, read_topology(model, a.topology));
  }
  if (a.experts) t = with_k(t, shape, *a.experts);
  if (a.threshold) t = with_threshold(t, *a.threshold);
  if (a.width) t = with_width(t, shape, *a.width);
  MOE_TRY(validate(t, shape));
  return t;
}

std::string topology_text(const ModelArguments& a) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (!a.topology.empty()) add(a.topology);
  if (a.experts) add("experts " + std::to_string(*a.experts));
  if (a.threshold) add("threshold " + format_fixed(*a.threshold, 3));
  if (a.width) add("width " + format_fixed(*a.width, 3));
  return text;
}

int64_t parameter_count(const GgufFile& file) {
  int64_t n = 0;
  for (const TensorInfo& t : file.tensors()) n += elements(t);
  return n;
}

size_t weight_bytes(const GgufFile& file) {
  size_t bytes = 0;
  for (const TensorInfo& t : file.tensors()) bytes += t.data.size();
  return bytes;
}

std::string model_type(const GgufFile& file, const std::string& arch) {
  std::map<DType, size_t> bytes;
  for (const TensorInfo& t : file.tensors()) bytes[t.dtype] += t.data.size();
  const auto most = std::max_element(bytes.begin(), bytes.end(), [](auto& a, auto& b) { return a.second < b.second; });
  const std::string format = most == bytes.end() ? "" : std::string(" ") + traits(most->first).name;
  return arch + " " + format_count(static_cast<double>(parameter_count(file))) + format;
}

}  // namespace moe::tools

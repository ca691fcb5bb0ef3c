#include "models/model.h"

#include <chrono>
#include <cmath>

#include "backends/backend_registry.h"
#include "tensor/fuse.h"

namespace moe {
namespace {

constexpr size_t kSmallModel = size_t{64} << 20;  // all weights of files up to this size are checked at load
constexpr int64_t kCheckChunk = 4096;             // elements decoded at a time, a multiple of every block

// The status with the file in front, once.
Status in_file(const std::string& path, const Status& s) {
  return s.message().compare(0, path.size() + 1, path + ":") == 0 ? s : s.Annotate(path);
}

Result<Shape> shape_of(const TensorInfo& t) {
  if (t.shape.size() > kMaxRank)
    return Status::Corrupt("tensor '" + t.name + "': wanted at most 4 dimensions, found " + std::to_string(t.shape.size()));
  Shape s;
  for (const int64_t d : t.shape) s.dim[static_cast<size_t>(s.rank++)] = d;
  return s;
}

// Ok, or which element of the tensor is not a finite number.
Status check_finite(const TensorInfo& t) {
  const DTypeTraits& f = traits(t.dtype);
  if (!f.is_weight) return Status::Ok();
  int64_t n = 1;
  for (const int64_t d : t.shape) n *= d;
  float values[kCheckChunk];
  for (int64_t i = 0; i < n; i += kCheckChunk) {
    const int64_t m = std::min(kCheckChunk, n - i);
    f.decode(t.data.data() + dtype_bytes(t.dtype, i), values, m);
    for (int64_t j = 0; j < m; ++j)
      if (!std::isfinite(values[j]))
        return Status::Corrupt("tensor '" + t.name + "': wanted finite weights, found " + std::to_string(values[j]) +
                               " at element " + std::to_string(i + j));
  }
  return Status::Ok();
}

}  // namespace

// Tensors of the file in the backend's memory, made ready at the first question. Only load() asks first, so that sessions of
// several threads find everything here.
class Model::Weights final : public WeightSource {
 public:
  Weights(const GgufFile& file, Backend& backend) : file_(file), backend_(backend) {}

  bool has(const std::string& name) const override {
    if (file_.find(name)) return true;
    for (const UnsupportedTensor& u : file_.unsupported())
      if (u.name == name) return true;
    return false;
  }

  Result<Tensor> weight(const std::string& name, bool plain) override {
    if (const auto it = ready_.find(name); it != ready_.end()) return it->second;
    MOE_ASSIGN(const TensorInfo* info, file_.require(name));
    MOE_ASSIGN(const Shape shape, shape_of(*info));
    if (!traits(info->dtype).is_weight)
      return Status::Unsupported("tensor '" + name + "': wanted weights, found integers of type " + traits(info->dtype).name);
    Tensor host{const_cast<std::byte*>(info->data.data()), info->dtype, shape};
    if (plain && info->dtype != DType::kF32) {
      const int64_t n = shape.elements();
      copies_.push_back(allocate_aligned(static_cast<size_t>(n) * sizeof(float)));
      auto* values = reinterpret_cast<float*>(copies_.back().get());
      traits(info->dtype).decode(host.data, values, n);
      host = {values, DType::kF32, shape};
    }
    MOE_ASSIGN(const Tensor prepared, backend_.prepare_weight(name, host));
    return ready_.emplace(name, prepared).first->second;
  }

 private:
  const GgufFile& file_;
  Backend& backend_;
  std::map<std::string, Tensor> ready_;
  std::vector<AlignedBytes> copies_;
};

Model::Model(GgufFile file, ModelConfig config) : file_(std::move(file)), config_(std::move(config)) {}
Model::~Model() = default;

Result<std::unique_ptr<Model>> Model::load(const std::string& path, const ModelOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  MOE_ASSIGN(GgufFile file, GgufFile::open(path));
  MOE_ASSIGN(const std::string arch_name, file.metadata().get<std::string>("general.architecture"));
  auto arch = find_arch(arch_name);
  if (!arch.ok()) return arch.status().Annotate(path);
  MOE_ASSIGN(ModelConfig config, read_config(file.metadata()));
  MOE_TRY((*arch)->configure(config, path));
  auto embedding = file.require("token_embd.weight");
  if (embedding.status().code() == StatusCode::kUnsupported) return in_file(path, embedding.status());
  if (!embedding.ok() || (*embedding)->shape.size() != 2)
    return Status::NotFound(path + ": tensor 'token_embd.weight' is missing or no matrix: this file has no weights to run");
  config.n_vocab = static_cast<int>(std::min<int64_t>((*embedding)->shape[0], 1 << 30));

  std::unique_ptr<Model> m(new Model(std::move(file), std::move(config)));
  MOE_ASSIGN(m->backend_, create_backend(options.backend, options.backend_options));
  m->weights_ = std::make_unique<Weights>(m->file_, *m->backend_);
  auto graph = m->graph({});
  if (!graph.ok()) return in_file(path, graph.status());
  MOE_TRY(m->load_routing(*graph));
  MOE_TRY(m->load_tokenizer());
  MOE_TRY(m->check_small_weights());
  m->load_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return m;
}

Status Model::load_routing(const ModelGraph& graph) {
  shape_.model_hash = file_.content_hash();
  shape_.n_vocab = config_.n_vocab;
  for (const RouterValues& r : graph.routers) {
    RoutingShape::Layer layer;
    if (r.n_experts > 0) layer = {r.n_experts, r.k, r.d_ff, r.width_step, r.n_group, r.topk_group, r.places};
    shape_.layers.push_back(std::move(layer));
  }
  topology_ = full_topology(shape_);
  const bool stored = metadata().has(kTopologyKey);
  if (!stored && config_.layer_experts.empty()) return Status::Ok();
  const std::string key = stored ? kTopologyKey : "moe.experts.count";
  const auto corrupt = [&](const Status& s) { return Status::Corrupt(file_.name() + ": key '" + key + "': " + s.message()); };
  if (stored) {
    MOE_ASSIGN(const std::string text, metadata().get<std::string>(key));
    Result<RoutingTopology> t = topology_from_json(text);
    if (!t.ok()) return corrupt(t.status());
    topology_ = std::move(t).value();
    topology_.model_hash = shape_.model_hash;  // it lies in the file of its model, whatever format the weights have got since
  }
  if (Status s = validate(topology_, shape_); !s.ok()) return corrupt(s);
  for (size_t i = 0; i < shape_.layers.size(); ++i)
    if (const int k = topology_.layers[i].k_max; k > 0) shape_.layers[i].k = k;
  return Status::Ok();
}

Status Model::load_tokenizer() {
  if (!metadata().has("tokenizer.ggml.model")) {
    tokenizer_status_ = Status::NotFound(file_.name() + ": key 'tokenizer.ggml.model' is missing: the file has no tokenizer");
    return Status::Ok();
  }
  MOE_ASSIGN(TokenizerData data, TokenizerData::from_metadata(metadata()));
  if (data.tokens.size() != static_cast<size_t>(config_.n_vocab))
    return Status::Corrupt(file_.name() + ": key 'tokenizer.ggml.tokens': wanted " + std::to_string(config_.n_vocab) +
                           " tokens, one a row of token_embd.weight, found " + std::to_string(data.tokens.size()));
  Result<Tokenizer> t = Tokenizer::create(std::move(data));
  // A tokenizer that this build does not know leaves a model that runs on token ids.
  if (t.ok())
    tokenizer_ = std::move(t).value();
  else if (t.status().code() == StatusCode::kUnsupported)
    tokenizer_status_ = t.status().Annotate(file_.name());
  else
    return t.status().Annotate(file_.name());
  return Status::Ok();
}

// Norms and biases always, everything where the file is small: what it costs is lost in the load time.
Status Model::check_small_weights() const {
  const bool all = file_.file_bytes() <= kSmallModel;
  for (const TensorInfo& t : file_.tensors())
    if (all || t.shape.size() == 1)
      if (Status s = check_finite(t); !s.ok()) return s.Annotate(file_.name());
  return Status::Ok();
}

Status Model::check_weights() const {
  for (const TensorInfo& t : file_.tensors())
    if (Status s = check_finite(t); !s.ok()) return s.Annotate(file_.name());
  return Status::Ok();
}

Result<ModelGraph> Model::graph(const GraphOptions& options) const {
  MOE_ASSIGN(ModelGraph g, simple_graph(options));
  g.graph = fused(g.graph);
  return g;
}

Result<ModelGraph> Model::simple_graph(const GraphOptions& options) const {
  return build_graph(config_, options, weights_.get());
}

Graph Model::fused(const Graph& simple) const {
  return fuse(simple, [this](const Graph& graph, const Node& node) { return backend_->supports(graph, node); });
}

}  // namespace moe

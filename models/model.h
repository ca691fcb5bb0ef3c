// A model file, opened, checked and ready to make graphs: config, weights in a backend, tokenizer.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/arena.h"
#include "models/arch.h"
#include "models/io/gguf.h"
#include "models/routing.h"
#include "models/tokenizer/tokenizer.h"
#include "tensor/backend.h"

namespace moe {

struct ModelOptions {
  std::string backend = "cpu";
  BackendOptions backend_options;
};

// Immutable after load() and thread-safe; sessions refer to it, so it must outlive them. Each model has a backend of its own.
class Model {
 public:
  // Opens a GGUF file (or the first part of a split one), checks keys and tensors against the architecture, and prepares the
  // weights. Errors name the file and the key or tensor.
  static Result<std::unique_ptr<Model>> load(const std::string& path, const ModelOptions& options);
  ~Model();

  const ModelConfig& config() const { return config_; }
  const GgufFile& file() const { return file_; }
  const Metadata& metadata() const { return file_.metadata(); }
  Backend& backend() const { return *backend_; }
  uint64_t hash() const { return shape_.model_hash; }
  const RoutingShape& routing_shape() const { return shape_; }
  // What sessions begin with: the topology that the file brings (key moe.topology), else everything allowed.
  const RoutingTopology& topology() const { return topology_; }

  // Null when the file carries no tokenizer; the reason is in tokenizer_status().
  const Tokenizer* tokenizer() const { return tokenizer_ ? &*tokenizer_ : nullptr; }
  const Status& tokenizer_status() const { return tokenizer_status_; }

  // The forward pass for these options, weights bound, fused as the backend likes it.
  Result<ModelGraph> graph(const GraphOptions& options) const;
  // The same in simple ops, for those who cut it before they fuse it.
  Result<ModelGraph> simple_graph(const GraphOptions& options) const;
  Graph fused(const Graph& simple) const;

  double load_seconds() const { return load_seconds_; }

  // Scans every weight; an error names the first tensor that decodes to a NaN or an infinity. Reads the whole file.
  Status check_weights() const;

 private:
  class Weights;
  Model(GgufFile file, ModelConfig config);
  Status load_routing(const ModelGraph& graph);
  Status load_tokenizer();
  Status check_small_weights() const;

  GgufFile file_;
  ModelConfig config_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Weights> weights_;
  RoutingShape shape_;
  RoutingTopology topology_;
  std::optional<Tokenizer> tokenizer_;
  Status tokenizer_status_;
  double load_seconds_ = 0;
};

}  // namespace moe

// What architectures build their graphs with: weights by name and shape, ops by name, and the runtime inputs every model has.
//
// The same code that builds the graph of a file also declares the tensors of a model that has no file yet (WeightSource null):
// the table of tensors for synth, quantise and count is what the builder was asked for. Nobody lists tensors twice.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "models/config.h"
#include "tensor/graph.h"

namespace moe {

// Where weights come from. A null result with an ok status means "not in the file".
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // The tensor in the backend's memory. `rows` < all of them views a run of rows of a fused tensor. As float32 when `plain`.
  virtual Result<Tensor> weight(const std::string& name, bool plain) = 0;
  virtual bool has(const std::string& name) const = 0;
};

enum class Presence {
  kRequired,
  kOptional,  // used when the file has it; not declared for new models
  kUsual,     // used when the file has it; declared for new models
};

// How a new random model fills a tensor.
enum class Role { kMatrix, kEmbedding, kNorm, kBias, kRouter };

struct DeclaredTensor {
  std::string name;
  Shape shape;
  Role role = Role::kMatrix;
  int layer = -1;
};

struct GraphOptions {
  int64_t n_slots = 1;  // sequences
  int64_t n_ctx = 512;  // positions a sequence
  DType cache_k = DType::kF16, cache_v = DType::kF16;
  int n_classes = 1;            // token classes of the routing tables
  std::vector<int> k_capacity;  // (n layers) slots of the router's output; empty: the model's own k
  bool observe_router = false;  // keep every layer's router logits readable after a run
  bool train = false;           // with the inputs of training: see ModelGraph
};

// The values by which a session talks to one MoE layer.
struct RouterValues {
  int n_experts = 0;  // rows of the router; 0: a dense layer, nothing else is set
  int k = 0, d_ff = 0, width_step = 1;
  std::vector<int32_t> places;  // (E) as in LayerExperts; empty: all experts have weights, W = E
  int n_group = 1, topk_group = 1;
  ValueId params = kNone;    // inputs: f32 (8), see route
  ValueId allow = kNone;     // i8 (n_classes, E)
  ValueId bias = kNone;      // f32 (E)
  ValueId redirect = kNone;  // i32 (E)
  ValueId width = kNone;     // i32 (W), by place
  ValueId place = kNone;     // i32 (E), where there are places
  ValueId ids = kNone;       // outputs: i32 (T, K), places where there are any
  ValueId weights = kNone;   // f32 (T, K)
  ValueId logits = kNone;    // f32 (T, E), an output when observed
  // Where a graph is cut to have a layer's experts alone: what router and experts read, f32 (T, d_model), and what is added to
  // the residual stream for it.
  ValueId x = kNone, mixture = kNone;
};

struct CacheValues {
  ValueId k = kNone, v = kNone;  // states; v is kNone where keys hold the values (latent attention)
};

struct ModelGraph {
  Graph graph;
  ValueId tokens = kNone, positions = kNone, slots = kNone, rows = kNone, token_class = kNone;  // inputs, i32
  // Inputs of GraphOptions::train, f32 (4), one each for all layers: see route_grad, drop_experts and limit_experts.
  ValueId balance = kNone, drop = kNone, capacity = kNone;
  ValueId hidden = kNone, head = kNone;  // f32 (R, d_model); the weight (n_vocab, d_model) whose product with it logits are
  ValueId logits = kNone;                // f32 (R, n_vocab)
  std::vector<ValueId> residual;         // (n layers) f32 (T, d_model): what enters each layer, for cuts
  std::vector<RouterValues> routers;     // (n layers)
  std::vector<CacheValues> caches;       // (n layers)
};

class GraphBuilder {
 public:
  GraphBuilder(const ModelConfig& config, const GraphOptions& options, WeightSource* source);

  const ModelConfig& config() const { return config_; }
  const GraphOptions& options() const { return options_; }
  ModelGraph& model() { return model_; }
  Graph& graph() { return model_.graph; }
  void set_layer(int layer) { layer_ = layer; }
  int layer() const { return layer_; }

  // "blk.3.attn_q.weight" of the current layer, or "output_norm.weight" outside.
  std::string name(const std::string& suffix) const;
  bool has(const std::string& suffix) const;

  // A weight of the current layer. kNone when absent and not required. The first missing or misshapen one becomes status();
  // building goes on with the shape wanted, so that callers need no checks of their own.
  ValueId matrix(const std::string& suffix, Shape shape, Presence = Presence::kRequired, Role = Role::kMatrix);
  // A vector that kernels read as float32, whatever the file holds.
  ValueId vector(const std::string& suffix, int64_t n, Role role, Presence = Presence::kRequired);
  ValueId plain_matrix(const std::string& suffix, Shape shape, Role role, Presence = Presence::kRequired);
  // One small matrix a head, stored (heads, rows, cols), as the (heads · rows, cols) that head_linear takes.
  ValueId head_matrices(const std::string& suffix, int64_t heads, int64_t rows, int64_t cols);
  // A vector (n) as the (1, n) matrix of a linear layer with one output.
  ValueId row_vector(const std::string& suffix, int64_t n, Role role);
  // Rows [begin, begin + n) of a fused matrix (total, n_in) or vector (total).
  ValueId matrix_rows(const std::string& suffix, int64_t begin, int64_t n, int64_t total, int64_t n_in);
  ValueId vector_rows(const std::string& suffix, int64_t begin, int64_t n, int64_t total);

  ValueId op(Op op, std::vector<ValueId> in, Attrs attrs = NoAttrs{}) {
    return graph().add_node(op, std::move(in), attrs, layer_);
  }
  ValueId rms_norm(ValueId x, ValueId weight, int64_t group);
  ValueId linear(ValueId x, ValueId w, ValueId bias = kNone) { return op(Op::kLinear, {x, w, bias, kNone}, ScaleAttrs{}); }
  ValueId add(ValueId a, ValueId b) { return op(Op::kAdd, {a, b}); }
  ValueId scale(ValueId x, float factor);  // x itself when factor is 1
  ValueId input(const std::string& name, DType dtype, Shape shape);
  ValueId state(const std::string& name, DType dtype, Shape shape);
  void mark_output(ValueId v, std::string label);

  // Records the first error.
  void fail(Status s) {
    if (status_.ok()) status_ = std::move(s);
  }
  const Status& status() const { return status_; }
  bool declaring() const { return source_ == nullptr; }
  const std::vector<DeclaredTensor>& declared() const { return declared_; }

 private:
  ValueId find_weight(const std::string& full, Shape shape, Presence, Role, bool plain);
  ValueId rows_of(const std::string& suffix, int64_t begin, int64_t n, Shape whole, bool plain);
  ValueId add_weight(const std::string& full, Shape shape, DType dtype, void* data);

  ModelConfig config_;
  GraphOptions options_;
  WeightSource* source_;
  ModelGraph model_;
  int layer_ = -1;
  Status status_;
  std::map<std::string, ValueId> weights_;
  std::vector<DeclaredTensor> declared_;
};

}  // namespace moe

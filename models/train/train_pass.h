// One compiled graph of a training step: forward up to the loss, and back.
//
//   tokens ──layers──► hidden ──cross_entropy_grad──► loss, kl, d hidden ──differentiate()──► gradients added to states
//                                 ▲ targets, row weights; a teacher's hidden rows and head
//
// A step runs several: the full model, the same at a narrower width with the full one's hidden rows as its teacher, and after
// some steps a forward one that measures held-out text. All read the same weights and add to the same gradients.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "models/arch.h"
#include "models/routing_tables.h"
#include "models/train/dataset.h"
#include "tensor/autodiff.h"

namespace moe {

enum class TrainPassKind {
  kReverse,  // losses, and gradients added to states
  kForward,  // losses
  kHidden,   // hidden rows: a teacher
};

struct TrainPassOptions {
  TrainPassKind kind = TrainPassKind::kReverse;
  int64_t max_tokens = 0;
  float logit_scale = 1;
  std::function<bool(const Value& weight)> trains;
  std::optional<Tensor> teacher_head;  // (n_vocab, c): distils
  float teacher_logit_scale = 1;
};

// Runtime numbers of one run beside the tokens.
struct TrainPassNumbers {
  float balance[4] = {};        // α of the Switch loss, β of the z loss: see route_grad
  float drop[4] = {};           // probability, seed: see drop_experts
  float capacity[4] = {};       // factor, overflow, seed: see limit_experts
  float mix[4] = {0, 1, 0, 0};  // the teacher's share of the loss, its temperature: see cross_entropy_grad
};

// What the graph of a pass is built with: sequences of the batch, positions of each, k of each layer.
GraphOptions train_graph_options(int64_t max_tokens, int context, std::vector<int> k_capacity);

// Not thread-safe. Weights and backend must outlive it.
class TrainPass {
 public:
  static Result<std::unique_ptr<TrainPass>> create(Backend& backend, ModelGraph model, const TrainPassOptions& options);

  // Gradients of the graph, to be bound before the first run.
  std::span<const WeightGradient> gradients() const { return gradients_; }
  const Graph& graph() const { return model_.graph; }
  Status bind(ValueId value, const Tensor& tensor) { return executable_->bind(value, tensor); }

  ValueId head() const { return model_.head; }  // the weight (n_vocab, d_model)
  const std::vector<RouterValues>& routers() const { return model_.routers; }
  RoutingTables& tables(size_t layer) { return tables_[layer]; }
  TrainPassNumbers& numbers() { return numbers_; }

  // Runs the first `rows` rows of a batch, or those from `begin` on; every target's loss counts `weight` in the gradients.
  // `teacher_x`, (tokens, c) float32, where there is a teacher.
  Status run(const DatasetBatch& batch, int begin, int rows, float weight, const float* teacher_x = nullptr);

  // Of the last run. Sums over the targets that were run, in nats.
  struct Losses {
    double loss = 0, kl = 0;
    int64_t n_targets = 0;
    double switch_loss = 0, z = 0;  // means over the routed layers; reverse passes only
  };
  Result<Losses> losses() const;
  Result<Tensor> hidden() const { return executable_->read(model_.hidden); }  // (tokens, d_model)
  Result<Tensor> ids(size_t layer) const { return executable_->read(model_.routers[layer].ids); }
  int64_t n_tokens() const { return n_tokens_; }
  ExecutableStats stats() const { return executable_->stats(); }

 private:
  TrainPass() = default;
  void cut_logits();
  Status add_loss(const TrainPassOptions& options);
  Status bind_inputs(Backend& backend, const TrainPassOptions& options);

  ModelGraph model_;
  std::vector<WeightGradient> gradients_;
  ValueId targets_ = kNone, row_weight_ = kNone, teacher_x_ = kNone, mix_ = kNone, loss_ = kNone, kl_ = kNone;
  std::vector<ValueId> router_losses_;  // of routed layers, f32 (4)
  std::unique_ptr<Executable> executable_;
  std::vector<RoutingTables> tables_;  // (n layers)
  TrainPassNumbers numbers_;
  Buffer keys_, values_;  // caches, which no layer needs once it is done
  std::vector<int32_t> tokens_, positions_, slots_, rows_, classes_, target_ids_;
  std::vector<float> row_weights_;
  int64_t n_tokens_ = 0, n_targets_ = 0;
};

}  // namespace moe

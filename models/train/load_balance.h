// Even use of experts: selection biases moved after every step, and a monitor of who was used how much lately.
//
//   ids of a step ──count_uses()──► uses ──update_selection_bias()──► bias of the next step
//                                    └──UsageMonitor::add()──► shares, variation, entropy, who is over or under
//
// The bias only decides which experts a token gets (route's selection_bias, or LayerRouting::bias); weights come from the
// scores alone, so no gradient works against the loss (arXiv 2408.15664).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/status.h"

namespace moe {

// uses[e] += slots of `ids` that hold e. Slots of −1 count for nobody. An id beyond uses is our own bug.
void count_uses(std::span<const int32_t> ids /* (T · K) */, std::span<uint32_t> uses /* (n_experts) */);

// b_e ← b_e + speed · sign(mean of uses − uses_e) (arXiv 2408.15664, algorithm 1). The paper's speed is 0.001: 0.0001 takes too
// long to balance, 0.01 keeps swinging.
inline constexpr float kBiasSpeed = 0.001f;
void update_selection_bias(std::span<const uint32_t> uses /* (n_experts), of one step */, float speed,
                           std::span<float> bias /* (n_experts) */);

// An expert that gets its fair share of the slots is utilised to `target`; utilisation is proportional to its uses, so a
// capacity of 1 / target times the fair share is full at 1. Experts further than `threshold` from the target are told.
struct UsageTargets {
  int window = 1000;  // steps
  double target = 0.7;
  double threshold = 0.3;
};
Status validate(const UsageTargets& t);  // kInvalidArgument naming the number, wanted and found

struct LayerUsage {              // over the window
  int steps = 0;                 // that it holds
  std::vector<uint64_t> uses;    // (n_experts)
  std::vector<double> share;     // (n_experts) of all uses; zeros when there are none
  double variation = 0;          // standard deviation of uses ÷ their mean: 0 is even
  double entropy = 1;            // of the shares ÷ ln(n_experts): 1 is even
  std::vector<int> over, under;  // experts, ascending
};

// Not thread-safe. Holds window · experts counts.
class UsageMonitor {
 public:
  // Targets must be valid. Layers without experts (0) have no use.
  UsageMonitor(const std::vector<int>& n_experts /* (n_layers) */, const UsageTargets& targets);

  // One step of a layer; the oldest one leaves a full window.
  void add(size_t layer, std::span<const uint32_t> uses /* (n_experts) */);
  LayerUsage usage(size_t layer) const;
  size_t n_layers() const { return layers_.size(); }

  // For checkpoints: of each layer the number of steps n, then the uses of those steps, oldest first, (n, n_experts).
  std::vector<uint32_t> save() const;
  // kCorrupt, and no change, when the numbers are not those of a monitor of these layers and this window.
  Status restore(std::span<const uint32_t> saved);

 private:
  struct Layer {
    size_t n_experts = 0;
    size_t steps = 0, next = 0;  // next: where the next step goes, once the window is full the oldest one
    std::vector<uint32_t> ring;  // (steps, n_experts)
    std::vector<uint64_t> sum;   // (n_experts)
  };
  UsageTargets targets_;
  std::vector<Layer> layers_;
};

}  // namespace moe

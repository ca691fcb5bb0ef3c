// What every genome of a search must satisfy, and what guides its operators. Constraints are kept by repair (repair.h), never
// by a penalty; what no genome could satisfy is refused here, with the sums that show why.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "evolution/genome.h"

namespace moe {

struct IntRange {  // both ends included; low == high: exactly
  int64_t low = 0, high = 0;
};

struct Constraints {
  std::optional<IntRange> kept;    // experts that some class of token can reach, over all layers; a skipped layer has none
  std::optional<IntRange> active;  // Σ k_max over all layers
  int kept_low = 1;                // experts kept in a layer at least, where it is not skipped
  int k_low = 1, k_high = 0;       // k_max of a layer; k_high 0: the model's own k
  bool skip = false;               // whether layers may be skipped. Kept and active budgets must be reachable without that
  int classes = kMaxTokenClasses;  // most classes of tokens
  int narrowest = 1;               // fewest quarters of its width that an expert runs
  float temperature_low = 0.1f, temperature_high = 10;
  float bias_high = 1;                        // most that a selection score is moved, up or down
  std::vector<std::vector<int32_t>> protect;  // (n_layers) experts that no class may lose; empty: none
};

struct Guides {
  // (n_layers)(n_experts) how much an expert is missed: operators prefer high ones to stay and come. Empty: no preference. An
  // inner vector may be empty as well.
  std::vector<std::vector<float>> saliency;
  // (n_layers) lists of experts that are used together
  std::vector<std::vector<std::vector<int32_t>>> groups;
  // (n_vocab) tokens of one group stay together when a class is split. Empty: each for itself
  std::vector<uint16_t> token_group;
  float bias_step = 0.05f;  // of the bias operator, in units of the selection score
};

// A model, constraints that it can satisfy, and guides of the right sizes. Immutable; read by all threads.
class SearchSpace {
 public:
  // kInvalidArgument: what is wrong, or which sums cannot meet.
  static Result<SearchSpace> create(RoutingShape shape, Constraints constraints, Guides guides = {});

  const RoutingShape& shape() const { return shape_; }
  const RoutingShape::Layer& shape(int layer) const { return shape_.layers[static_cast<size_t>(layer)]; }
  const Constraints& constraints() const { return constraints_; }
  const Guides& guides() const { return guides_; }

  const std::vector<int>& routed() const { return routed_; }  // layers that have experts
  int k_low(int layer) const { return bounds_[static_cast<size_t>(layer)].k_low; }
  int k_high(int layer) const { return bounds_[static_cast<size_t>(layer)].k_high; }
  Bits protect(int layer) const { return bounds_[static_cast<size_t>(layer)].protect; }  // (words)
  bool is_protected(int layer, int e) const { return has_bit(protect(layer), e); }
  bool may_skip(int layer) const;
  // The setting of a width that stands for this one: wide enough, and the widest that runs as many channels.
  int width_setting(int layer, int quarters) const {
    return bounds_[static_cast<size_t>(layer)].width_setting[static_cast<size_t>(quarters)];
  }
  std::span<const float> saliency(int layer) const;  // (n_experts) or empty

 private:
  struct Bounds {
    int k_low = 0, k_high = 0;
    std::vector<uint64_t> protect;
    std::array<int, kQuarters + 1> width_setting{};
  };
  SearchSpace() = default;
  Status bound_layers();
  Status check_guides() const;
  Status check_budgets() const;

  RoutingShape shape_;
  Constraints constraints_;
  Guides guides_;
  std::vector<int> routed_;
  std::vector<Bounds> bounds_;  // (n_layers)
};

}  // namespace moe

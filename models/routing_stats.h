// What routers did: expert use, load balance, entropy, work saved. Fed by a session's observer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/session.h"

namespace moe {

// Not thread-safe. add() does not allocate.
class RoutingStats {
 public:
  explicit RoutingStats(const RoutingShape& shape);
  void add(const RouterView& view);
  void reset();

  struct Layer {
    int n_experts = 0;
    uint64_t tokens = 0;
    std::vector<uint64_t> use;   // (n_experts) slots that went to each expert
    std::vector<double> weight;  // (n_experts) sum of routing weights
    uint64_t slots = 0;          // Σ use
    double entropy = 0;          // Σ over tokens of the entropy of softmax(router logits), nats; 0 unless logits are observed
    uint64_t entropy_tokens = 0;
  };
  const std::vector<Layer>& layers() const { return layers_; }  // (n layers), dense ones with n_experts 0

  struct Summary {
    uint64_t tokens = 0;
    double k_mean = 0;        // experts used a token and routed layer
    double work_mean = 0;     // as k_mean, an expert counted by the share of its hidden channels that ran
    double load_balance = 0;  // mean over layers of (max use) / (mean use): 1 is perfect (Switch Transformer calls it capacity)
    double use_entropy = 0;   // mean over layers of the entropy of expert use / ln(n_experts): 1 is uniform
    double router_entropy = 0;  // mean over layers and tokens, nats; −1 when not observed
    // Share of expert FLOPs saved against static routing (the model's own k at full width), 0..1; negative: more work.
    double expert_flops_saved = 0;
    uint64_t dead_experts = 0;  // experts that nothing was routed to, over all layers
  };
  // The widths of the topology in use decide how much an expert's use costs.
  Summary summarize(const RoutingTopology& topology) const;
  std::string to_json(const RoutingTopology& topology) const;  // summary and layers; documented in models/README.md

  // One line a routed layer, one cell an expert (or a run of experts where there are more than `columns`), busiest = fullest;
  // UTF-8 block characters, or ANSI 256-colour backgrounds when `color`. Ends with a legend; "" for a dense model.
  std::string heat_map(int columns, bool color) const;

 private:
  RoutingShape shape_;
  std::vector<Layer> layers_;
};

}  // namespace moe

// A layer's router over router logits that were kept: the very `route` op that models run, in a graph of its own. So a routing
// is priced with the arithmetic it will have, and there is one description of it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "models/routing_tables.h"

namespace moe {

// What a model says of one layer's router.
struct RouterModel {
  RoutingShape::Layer shape;
  RouteAttrs attrs;                   // k_capacity does not count
  std::vector<float> selection_bias;  // (E) or empty

  bool operator==(const RouterModel& o) const;
};

// Not thread-safe. The backend must outlive it.
class RouterReplay {
 public:
  static Result<std::unique_ptr<RouterReplay>> create(Backend& backend, const RouterModel& router, int k_capacity,
                                                      int64_t max_tokens);

  int k_capacity() const { return k_capacity_; }

  // logits (T, E); classes (T), each below n_classes.
  Status run(const LayerRouting& routing, int n_classes, std::span<const float> logits, std::span<const int32_t> classes);

  std::span<const int32_t> ids() const { return ids_; }        // (T, k_capacity) of the last run; −1: none
  std::span<const float> weights() const { return weights_; }  // (T, k_capacity)

 private:
  RouterReplay() = default;
  void add_inputs(const RouterModel& router);

  Graph graph_;
  RouterValues values_;
  ValueId token_class_ = kNone, selection_bias_ = kNone;
  std::unique_ptr<Executable> executable_;
  RoutingTables tables_;
  std::vector<float> bias_;  // (E) the model's selection bias
  int k_capacity_ = 0, d_ff_ = 0;
  std::span<const int32_t> ids_;
  std::span<const float> weights_;
};

}  // namespace moe

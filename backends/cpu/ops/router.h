// One token's way through the router, step by step: route takes them all, route_grad looks at what lies between.
#pragma once

#include "backends/cpu/op_context.h"

namespace moe::cpu {

// Inputs that route and route_grad have in the same places.
struct RoutingTables {
  explicit RoutingTables(const OpContext& c);

  int64_t k_min, k_max;
  float threshold, temperature;
  const int8_t* allow;          // (C, E)
  const int32_t* token_class;   // (T)
  const float* bias;            // (E)
  const int32_t* redirect;      // (E)
  const float* selection_bias;  // (E) or null
};

// Steps 1 … 6 as cpu_route.cpp counts them, in this order. Takes scratch_route() bytes of the thread's scratch.
class Router {
 public:
  Router(const OpContext& c, const RoutingTables& t);

  // All of them. logits (E); ids, weights (k_capacity)
  void route(const float* logits, int32_t token_class, int32_t* ids, float* weights);

  // 1 … 4 but for the threshold: the best in falling order, and what they are weighed with: scores, or their exponentials.
  void choose(const float* logits, int32_t token_class, int32_t* ids, float* weights);

  // The threshold of 4.
  struct Sums {
    float all, kept;  // of the weights before and behind it
  };
  Sums drop(int32_t* ids, float* weights) const;

  // What step 5 divides by.
  float divisor(Sums sums) const;

  // 6. moved: null, or (k_capacity) the slot that each slot's weight is in afterwards.
  void redirect(int32_t* ids, float* weights, int64_t* moved) const;

  // Of the token at hand.
  bool eligible(int64_t e) const;
  const float* scores() const { return p_; }

 private:
  void score(const float* logits);
  void limit_groups();
  void select(int32_t* ids, float* weights);
  int64_t used(const int32_t* ids) const;

  const KernelTable& kernels_;
  const RouteAttrs& a_;
  const RoutingTables& t_;
  const int64_t E_;
  const int8_t* allow_ = nullptr;  // (E) of the token
  const float* logits_ = nullptr;  // (E)
  float *p_, *v_;                  // (E)
  float* best_;                    // (k_capacity) the largest v, falling
  float* group_;                   // (n_group)
};

inline constexpr float kSmallestSum = 6.103515625e-5f;  // 2^-14: as the published implementations clamp it

}  // namespace moe::cpu

// Which tokens meet which expert: what drivers of products with routed experts share.
#pragma once

#include "backends/cpu/op_context.h"

namespace moe::cpu {

// (token, slot) pairs by expert, in ascending order of token; slots with id −1 are in no group. Groups of all experts lie on
// one line of pairs, experts ascending. Every part builds its own copy: it costs a few microseconds, a barrier more.
struct Groups {
  Groups(const Tensor& ids, int64_t n_experts, Arena& scratch);
  struct Group {
    int32_t expert, begin, count;  // pairs[begin .. begin + count)
  };
  int32_t* pairs;  // (n_pairs) token · K + slot
  Group* active;   // (n_active) in ascending order of expert
  int64_t n_active = 0, n_pairs = 0;
};

// What Groups takes of the arena.
size_t scratch_groups(size_t n_slots, size_t n_experts);

// Activation rows by pair: of the token for (T, n), of the slot for (T, K, n).
struct Activations {
  Activations(const Tensor& rows, int64_t k) : x(rows), stride(rows.row_bytes()), divisor(rows.shape.rank == 2 ? k : 1) {}
  const void* row(int32_t pair) const {
    return static_cast<const std::byte*>(x.data) + static_cast<size_t>(pair / divisor) * stride;
  }
  Tensor x;
  size_t stride;
  int64_t divisor;
};

}  // namespace moe::cpu

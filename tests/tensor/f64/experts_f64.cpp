// References of products with routed experts, forward and reverse.
#include <algorithm>

#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {
namespace {

// Of a matrix (E, n_out, n_in) and a limit (E) or none: how much of expert e is used.
size_t used(const Op64& op, size_t limit, size_t e, size_t all) {
  return op.has(limit) ? std::min(all, static_cast<size_t>(op.in(limit)[e])) : all;
}

}  // namespace

void moe_linear_f64(const Op64& op) {
  const Doubles &x = op.in(0), &ids = op.in(1), &w = op.in(2);
  const Shape stacked = op.in_shape(2);
  const auto n_out = static_cast<size_t>(stacked[1]), n_in = static_cast<size_t>(stacked[2]);
  const size_t per_row = op.in_shape(0).rank == 3 ? 1 : static_cast<size_t>(op.in_last(1));
  Doubles& y = op.out();
  for (size_t slot = 0; slot < ids.size(); ++slot) {
    if (ids[slot] < 0) continue;
    const auto e = static_cast<size_t>(ids[slot]);
    for (size_t o = 0; o < used(op, 4, e, n_out); ++o) {
      double sum = op.has(3) ? op.in(3)[e * n_out + o] : 0;
      for (size_t i = 0; i < used(op, 5, e, n_in); ++i) sum += w[(e * n_out + o) * n_in + i] * x[slot / per_row * n_in + i];
      y[slot * n_out + o] = sum;
    }
  }
}

void moe_linear_dx_f64(const Op64& op) {
  const Doubles &dy = op.in(0), &ids = op.in(1), &w = op.in(2);
  const Shape stacked = op.in_shape(2);
  const auto n_out = static_cast<size_t>(stacked[1]), n_in = static_cast<size_t>(stacked[2]);
  const size_t per_row = op.attrs<MoeGradAttrs>().slots ? 1 : static_cast<size_t>(op.in_last(1));
  Doubles& dx = op.out();
  for (size_t slot = 0; slot < ids.size(); ++slot) {
    if (ids[slot] < 0) continue;
    const auto e = static_cast<size_t>(ids[slot]);
    for (size_t o = 0; o < used(op, 3, e, n_out); ++o)
      for (size_t i = 0; i < used(op, 4, e, n_in); ++i)
        dx[slot / per_row * n_in + i] += w[(e * n_out + o) * n_in + i] * dy[slot * n_out + o];
  }
}

void moe_linear_dw_f64(const Op64& op) {
  const Doubles &dy = op.in(0), &x = op.in(1), &ids = op.in(2);
  const auto n_out = static_cast<size_t>(op.in_last(0)), n_in = static_cast<size_t>(op.in_last(1));
  const size_t per_row = op.in_shape(1).rank == 3 ? 1 : static_cast<size_t>(op.in_last(2));
  for (size_t slot = 0; slot < ids.size(); ++slot) {
    if (ids[slot] < 0) continue;
    const auto e = static_cast<size_t>(ids[slot]);
    for (size_t o = 0; o < used(op, 3, e, n_out); ++o) {
      for (size_t i = 0; i < used(op, 4, e, n_in) && op.has(5); ++i)
        op.in(5)[(e * n_out + o) * n_in + i] += dy[slot * n_out + o] * x[slot / per_row * n_in + i];
      if (op.has(6)) op.in(6)[e * n_out + o] += dy[slot * n_out + o];
    }
  }
}

void weighted_sum_f64(const Op64& op) {
  const Doubles &x = op.in(0), &ids = op.in(1), &weights = op.in(2);
  const auto n = static_cast<size_t>(op.in_last(0)), K = static_cast<size_t>(op.in_last(1));
  Doubles& y = op.out();
  for (size_t slot = 0; slot < ids.size(); ++slot)
    for (size_t i = 0; i < n && ids[slot] >= 0; ++i) y[slot / K * n + i] += weights[slot] * x[slot * n + i];
}

void weighted_sum_grad_f64(const Op64& op) {
  const Doubles &x = op.in(0), &ids = op.in(1), &weights = op.in(2), &dy = op.in(3);
  const auto n = static_cast<size_t>(op.in_last(0)), K = static_cast<size_t>(op.in_last(1));
  Doubles &dx = op.out(0), &dweights = op.out(1);
  for (size_t slot = 0; slot < ids.size(); ++slot)
    for (size_t i = 0; i < n && ids[slot] >= 0; ++i) {
      dx[slot * n + i] = weights[slot] * dy[slot / K * n + i];
      dweights[slot] += x[slot * n + i] * dy[slot / K * n + i];
    }
}

}  // namespace moe::test

// References of sum_squares and adamw.
#include <cmath>

#include "core/half.h"
#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {

void sum_squares_f64(const Op64& op) {
  Doubles& y = op.out();
  for (const double x : op.in(0)) y[0] += x * x;
}

void adamw_f64(const Op64& op) {
  Doubles &w = op.in(0), &m = op.in(2), &v = op.in(3);
  const Doubles &grad = op.in(1), &h = op.in(5);
  const double rate = h[0], beta1 = h[1], beta2 = h[2], eps = h[3], decay = h[4], grad_scale = h[5];
  for (size_t i = 0; i < w.size(); ++i) {
    const double g = grad_scale * grad[i];
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    w[i] -= rate * (m[i] / h[6] / (std::sqrt(v[i] / h[7]) + eps) + decay * w[i]);
    if (op.has(4)) op.in(4)[i] = bf16_to_f32(f32_to_bf16(static_cast<float>(w[i])));
  }
}

}  // namespace moe::test

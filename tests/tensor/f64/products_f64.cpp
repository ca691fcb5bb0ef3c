// References of embed and linear, and of their reverse.
#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {

void embed_f64(const Op64& op) {
  const Doubles &table = op.in(0), &ids = op.in(1);
  const auto d = static_cast<size_t>(op.in_last(0));
  Doubles& y = op.out();
  for (size_t t = 0; t < ids.size(); ++t)
    for (size_t i = 0; i < d; ++i) y[t * d + i] = table[static_cast<size_t>(ids[t]) * d + i];
}

void embed_dw_f64(const Op64& op) {
  const Doubles &dy = op.in(0), &ids = op.in(1);
  const auto d = static_cast<size_t>(op.in_last(0));
  for (size_t t = 0; t < ids.size(); ++t)
    for (size_t i = 0; i < d; ++i) op.in(2)[static_cast<size_t>(ids[t]) * d + i] += dy[t * d + i];
}

void linear_f64(const Op64& op) {
  const Doubles &x = op.in(0), &w = op.in(1);
  const auto n_in = static_cast<size_t>(op.in_last(1)), n_out = static_cast<size_t>(op.in_rows(1));
  const double scale = op.attrs<ScaleAttrs>().scale;
  Doubles& y = op.out();
  for (size_t t = 0; t < static_cast<size_t>(op.in_rows(0)); ++t)
    for (size_t o = 0; o < n_out; ++o) {
      double sum = op.has(2) ? op.in(2)[o] : 0;
      for (size_t i = 0; i < n_in; ++i) sum += w[o * n_in + i] * x[t * n_in + i];
      y[t * n_out + o] = scale * sum + (op.has(3) ? op.in(3)[t * n_out + o] : 0);
    }
}

void linear_dx_f64(const Op64& op) {
  const Doubles &dy = op.in(0), &w = op.in(1);
  const auto n_in = static_cast<size_t>(op.in_last(1)), n_out = static_cast<size_t>(op.in_rows(1));
  Doubles& dx = op.out();
  for (size_t t = 0; t < static_cast<size_t>(op.in_rows(0)); ++t)
    for (size_t o = 0; o < n_out; ++o)
      for (size_t i = 0; i < n_in; ++i) dx[t * n_in + i] += op.attrs<ScaleAttrs>().scale * dy[t * n_out + o] * w[o * n_in + i];
}

void linear_dw_f64(const Op64& op) {
  const Doubles &dy = op.in(0), &x = op.in(1);
  const auto n_in = static_cast<size_t>(op.in_last(1)), n_out = static_cast<size_t>(op.in_last(0));
  const double scale = op.attrs<ProductGradAttrs>().scale;
  for (size_t t = 0; t < static_cast<size_t>(op.in_rows(0)); ++t)
    for (size_t o = 0; o < n_out; ++o) {
      const double g = scale * dy[t * n_out + o];
      if (op.has(3)) op.in(3)[o] += g;
      for (size_t i = 0; op.has(2) && i < n_in; ++i) op.in(2)[o * n_in + i] += g * x[t * n_in + i];
    }
}

}  // namespace moe::test

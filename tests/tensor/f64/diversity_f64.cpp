// Reference of diversity_grad.
#include <cmath>

#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {

void diversity_grad_f64(const Op64& op) {
  const Doubles& w = op.in(0);
  const auto E = static_cast<size_t>(op.in_shape(0)[0]), n = w.size() / E;
  const double strength = op.in(2)[0];
  if (E == 1) {
    op.out();
    return;
  }
  Doubles norm(E), u(w.size()), du(w.size());
  for (size_t e = 0; e < E; ++e) {
    for (size_t i = 0; i < n; ++i) norm[e] += w[e * n + i] * w[e * n + i];
    norm[e] = std::sqrt(norm[e]);
    for (size_t i = 0; norm[e] > 0 && i < n; ++i) u[e * n + i] = w[e * n + i] / norm[e];
  }
  const double pairs = static_cast<double>(E * (E - 1));
  double& loss = op.out()[0];
  for (size_t e = 0; e < E; ++e)
    for (size_t f = 0; f < E; ++f) {
      if (e == f) continue;
      double c = 0;
      for (size_t i = 0; i < n; ++i) c += u[e * n + i] * u[f * n + i];
      loss += c * c / pairs;
      for (size_t i = 0; i < n; ++i) du[e * n + i] += 4 * c * u[f * n + i] / pairs;
    }
  for (size_t e = 0; op.has(1) && e < E; ++e) {
    if (norm[e] == 0) continue;
    double along = 0;
    for (size_t i = 0; i < n; ++i) along += du[e * n + i] * u[e * n + i];
    for (size_t i = 0; i < n; ++i) op.in(1)[e * n + i] += strength * (du[e * n + i] - along * u[e * n + i]) / norm[e];
  }
}

}  // namespace moe::test

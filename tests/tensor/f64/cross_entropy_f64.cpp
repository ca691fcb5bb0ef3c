// References of cross_entropy and its gradient.
#include <algorithm>
#include <cmath>

#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {
namespace {

// Logits of row r, and the derivative of each with respect to its product.
struct Logits {
  Doubles z, slope;
};

Logits logits(const Op64& op, size_t x, size_t w, size_t r, double scale, double cap) {
  const auto d = static_cast<size_t>(op.in_last(w)), V = static_cast<size_t>(op.in_rows(w));
  Logits l{Doubles(V), Doubles(V, scale)};
  for (size_t v = 0; v < V; ++v) {
    double sum = 0;
    for (size_t i = 0; i < d; ++i) sum += op.in(w)[v * d + i] * op.in(x)[r * d + i];
    l.z[v] = scale * sum;
    if (cap == 0) continue;
    const double t = std::tanh(l.z[v] / cap);
    l.z[v] = cap * t, l.slope[v] *= 1 - t * t;
  }
  return l;
}

Doubles log_softmax(Doubles z, double temperature) {
  for (double& v : z) v /= temperature;
  const double top = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (const double v : z) sum += std::exp(v - top);
  for (double& v : z) v -= top + std::log(sum);
  return z;
}

}  // namespace

void cross_entropy_f64(const Op64& op) {
  const auto& a = op.attrs<CrossEntropyAttrs>();
  Doubles& loss = op.out();
  for (size_t r = 0; r < loss.size(); ++r) {
    const double target = op.in(2)[r];
    if (target < 0) continue;
    loss[r] = -log_softmax(logits(op, 0, 1, r, a.logit_scale, a.softcap).z, 1)[static_cast<size_t>(target)];
  }
}

void cross_entropy_grad_f64(const Op64& op) {
  const auto& a = op.attrs<CrossEntropyAttrs>();
  const auto d = static_cast<size_t>(op.in_last(1)), V = static_cast<size_t>(op.in_rows(1));
  const double alpha = op.has(4) ? op.in(6)[0] : 0, temperature = op.has(4) ? op.in(6)[1] : 1;
  Doubles &loss = op.out(0), &kl = op.out(1), &dx = op.out(2);
  for (size_t r = 0; r < loss.size(); ++r) {
    const double target = op.in(2)[r], weight = op.in(3)[r];
    if (target < 0 || weight == 0) continue;
    const Logits student = logits(op, 0, 1, r, a.logit_scale, a.softcap);
    const Doubles log_p = log_softmax(student.z, 1);
    loss[r] = -log_p[static_cast<size_t>(target)];
    Doubles dz(V);
    for (size_t v = 0; v < V; ++v)
      dz[v] = weight * (1 - alpha) * (std::exp(log_p[v]) - (static_cast<double>(v) == target ? 1 : 0));
    if (op.has(4)) {
      const Doubles s = log_softmax(student.z, temperature);
      const Doubles t = log_softmax(logits(op, 4, 5, r, a.teacher_logit_scale, a.teacher_softcap).z, temperature);
      for (size_t v = 0; v < V; ++v) {
        kl[r] += std::exp(t[v]) * (t[v] - s[v]);
        dz[v] += weight * alpha * temperature * (std::exp(s[v]) - std::exp(t[v]));
      }
    }
    for (size_t v = 0; v < V; ++v)
      for (size_t i = 0; i < d; ++i) {
        dx[r * d + i] += dz[v] * student.slope[v] * op.in(1)[v * d + i];
        if (op.has(7)) op.in(7)[v * d + i] += dz[v] * student.slope[v] * op.in(0)[r * d + i];
      }
  }
}

}  // namespace moe::test

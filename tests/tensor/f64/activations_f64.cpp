// References of activations and gated units, forward and reverse.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {
namespace {

struct Slope64 {
  double value, slope;
};

Slope64 sigmoid(double x) {
  const double s = 1 / (1 + std::exp(-x));
  return {s, s * (1 - s)};
}

Slope64 silu(double x, double alpha = 1) {  // x · σ(alpha · x)
  const Slope64 s = sigmoid(alpha * x);
  return {x * s.value, s.value + alpha * x * s.slope};
}

// 0.5 · x · (1 + tanh u), u = √(2/π) · (x + 0.044715 · x³)
Slope64 gelu(double x) {
  const double root = std::sqrt(2 / std::numbers::pi), t = std::tanh(root * (x + 0.044715 * x * x * x));
  return {0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x)};
}

template <class F>
void activation(const Op64& op, F f) {
  const Doubles& x = op.in(0);
  Doubles& y = op.out();
  for (size_t i = 0; i < x.size(); ++i) y[i] = f(x[i]).value;
}

template <class F>
void activation_grad(const Op64& op, F f) {
  const Doubles &x = op.in(0), &dy = op.in(1);
  Doubles& dx = op.out();
  for (size_t i = 0; i < x.size(); ++i) dx[i] = dy[i] * f(x[i]).slope;
}

struct Glu64 {
  double h, by_gate, by_up;  // and its derivatives
};

Glu64 glu(double gate, double up, const GluAttrs& a) {
  if (a.limit > 0) {
    const double limit = a.limit, u = std::clamp(up, -limit, limit);
    const Slope64 s = silu(std::min(gate, limit), a.alpha);
    return {s.value * (u + 1), gate > limit ? 0 : s.slope * (u + 1), u == up ? s.value : 0};
  }
  const Slope64 s = a.unit == GateUnit::kGeGlu ? gelu(gate) : silu(gate);
  return {s.value * up, s.slope * up, s.value};
}

}  // namespace

void silu_f64(const Op64& op) {
  activation(op, [](double x) { return silu(x); });
}
void gelu_f64(const Op64& op) { activation(op, gelu); }
void sigmoid_f64(const Op64& op) { activation(op, sigmoid); }
void silu_grad_f64(const Op64& op) {
  activation_grad(op, [](double x) { return silu(x); });
}
void gelu_grad_f64(const Op64& op) { activation_grad(op, gelu); }
void sigmoid_grad_f64(const Op64& op) { activation_grad(op, sigmoid); }

void glu_f64(const Op64& op) {
  const Doubles &gate = op.in(0), &up = op.in(1);
  Doubles& h = op.out();
  for (size_t i = 0; i < gate.size(); ++i) h[i] = glu(gate[i], up[i], op.attrs<GluAttrs>()).h;
}

void glu_grad_f64(const Op64& op) {
  const Doubles &gate = op.in(0), &up = op.in(1), &dh = op.in(2);
  Doubles &dgate = op.out(0), &dup = op.out(1);
  for (size_t i = 0; i < gate.size(); ++i) {
    const Glu64 g = glu(gate[i], up[i], op.attrs<GluAttrs>());
    dgate[i] = dh[i] * g.by_gate, dup[i] = dh[i] * g.by_up;
  }
}

}  // namespace moe::test

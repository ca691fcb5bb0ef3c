// Derivatives of the activations of elementwise.inl times the gradient of their result. An element's result does not depend on
// its place in the row; NaN gives NaN, and where a derivative has a limit at ±inf that is what ±inf gives.
#pragma once

namespace moe::cpu {
namespace {

// A function and its derivative at one register of points.
struct Slope {
  F32 value, slope;
};

// σ = 1 / (1 + e^−x), and 1 − σ = e^−x · σ without cancellation.
inline Slope sigmoid_slope(F32 x) {
  const F32 e = exp(sub(splat(0.0f), x));
  const F32 s = div(splat(1.0f), add(splat(1.0f), e));
  return {s, mul(s, mul(e, s))};
}

// d/dx x·σ(a·x) = σ + a·x·σ·(1 − σ); a = 1 is SiLU. Behind ±100, σ is 0 or 1 and its slope 0 in float32: the bound keeps
// inf · 0 away.
inline Slope silu_slope(F32 x, F32 a) {
  const F32 inner = min(splat(100.0f), max(splat(-100.0f), mul(a, x)));
  const Slope s = sigmoid_slope(inner);
  return {mul(x, s.value), fma(inner, s.slope, s.value)};
}

// x·σ(2u), u = √(2/π)·(x + 0.044715·x³), as gelu() has it: σ + x·σ·(1 − σ)·2u', 2u' = 2·√(2/π)·(1 + 3·0.044715·x²). Behind ±13,
// σ·(1 − σ) is below 1e-38.
inline Slope gelu_slope(F32 x) {
  const F32 b = min(splat(13.0f), max(splat(-13.0f), x));
  const F32 square = mul(b, b);
  const F32 inner = mul(fma(mul(square, splat(0.044715f)), b, b), splat(1.59576912160573f));
  const Slope s = sigmoid_slope(inner);
  const F32 steep = fma(square, splat(3 * 0.044715f * 1.59576912160573f), splat(1.59576912160573f));
  return {mul(x, s.value), fma(mul(b, s.slope), steep, s.value)};
}

inline void row_sigmoid_grad(const float* x, const float* dy, float* dx, int64_t n) {
  map2(x, dy, dx, n, [](F32 v, F32 d) { return mul(d, sigmoid_slope(v).slope); });
}
inline void row_silu_grad(const float* x, const float* dy, float* dx, int64_t n) {
  map2(x, dy, dx, n, [](F32 v, F32 d) { return mul(d, silu_slope(v, splat(1.0f)).slope); });
}
inline void row_gelu_grad(const float* x, const float* dy, float* dx, int64_t n) {
  map2(x, dy, dx, n, [](F32 v, F32 d) { return mul(d, gelu_slope(v).slope); });
}

// One register of a gated unit's gradients.
struct GluGrad {
  F32 gate, up;
};

// Each register is read as a whole before it is written: the results may take the place of the inputs.
template <class Fn>
inline void map_glu(const GluGradArgs& a, Fn fn) {
  int64_t i = 0;
  for (; i + kLanes <= a.n; i += kLanes) {
    const GluGrad d = fn(load(a.gate + i), load(a.up + i), load(a.dh + i));
    store(a.dgate + i, d.gate), store(a.dup + i, d.up);
  }
  if (const int64_t n = a.n - i; n > 0) {
    const GluGrad d = fn(load_n(a.gate + i, n), load_n(a.up + i, n), load_n(a.dh + i, n));
    store_n(a.dgate + i, d.gate, n), store_n(a.dup + i, d.up, n);
  }
}

// Where the clamped variant cuts, nothing flows; on the bound itself it does.
inline void row_glu_grad(const GluGradArgs& a) {
  if (a.p.limit > 0) {
    const F32 limit = splat(a.p.limit), lowest = splat(-a.p.limit), alpha = splat(a.p.alpha), none = splat(0.0f);
    map_glu(a, [=](F32 gate, F32 up, F32 dh) {
      const Slope s = silu_slope(min(limit, gate), alpha);
      const F32 u = max(lowest, min(limit, up));
      const F32 dgate = mul(dh, mul(add(u, splat(1.0f)), s.slope)), dup = mul(dh, s.value);
      return GluGrad{select_less(limit, gate, none, dgate), select_less(up, lowest, none, select_less(limit, up, none, dup))};
    });
  } else if (a.p.gelu) {
    map_glu(a, [](F32 gate, F32 up, F32 dh) {
      const Slope s = gelu_slope(gate);
      return GluGrad{mul(dh, mul(up, s.slope)), mul(dh, s.value)};
    });
  } else {
    map_glu(a, [](F32 gate, F32 up, F32 dh) {
      const Slope s = silu_slope(gate, splat(1.0f));
      return GluGrad{mul(dh, mul(up, s.slope)), mul(dh, s.value)};
    });
  }
}

}  // namespace
}  // namespace moe::cpu

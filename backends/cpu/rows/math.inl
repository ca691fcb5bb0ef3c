// Elementary functions on registers.
#pragma once

namespace moe::cpu {
namespace {

// e^x to 2 ulp. Below -87.3 (the smallest normal result) it is 0, so −inf gives 0; above 88.37 it stays at 2^127.5; NaN stays
// NaN.
//   x = n·ln 2 + r, |r| ≤ ln 2 / 2;  e^r by the polynomial of Cephes' expf;  ln 2 in two parts, the first with few bits so that
//   n·part is exact
inline F32 exp(F32 x) {
  const F32 lowest = splat(-87.33654f);
  const F32 in = x;
  x = min(splat(88.37626f), max(lowest, x));
  const F32 n = round_even(mul(x, splat(1.44269504088896341f)));
  F32 r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  F32 p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, mul(r, r), r);
  const F32 result = mul(add(p, splat(1.0f)), pow2(nan_to_zero(n)));
  return select_less(in, lowest, splat(0.0f), result);
}

// 1 / (1 + e^−x)
inline F32 sigmoid(F32 x) { return div(splat(1.0f), add(splat(1.0f), exp(sub(splat(0.0f), x)))); }

// x · sigmoid(x). −inf gives −inf, not the limit 0.
inline F32 silu(F32 x) { return div(x, add(splat(1.0f), exp(sub(splat(0.0f), x)))); }

// 0.5·x·(1 + tanh u) with u = √(2/π)·(x + 0.044715·x³) (arXiv 1606.08415 §2) equals x · sigmoid(2u).
inline F32 gelu(F32 x) {
  const F32 inner = fma(mul(mul(x, x), splat(0.044715f)), x, x);
  return div(x, add(splat(1.0f), exp(mul(inner, splat(-1.59576912160573f)))));
}

// Near 0, where 1 − 2/(e^2x + 1) cancels, the odd polynomial of Cephes' tanhf.
inline F32 tanh(F32 x) {
  const F32 z = mul(x, x);
  F32 p = splat(-5.70498872745e-3f);
  p = fma(p, z, splat(2.06390887954e-2f));
  p = fma(p, z, splat(-5.37397155531e-2f));
  p = fma(p, z, splat(1.33314422036e-1f));
  p = fma(p, z, splat(-3.33332819422e-1f));
  const F32 near_zero = fma(mul(p, z), x, x);
  const F32 far = sub(splat(1.0f), div(splat(2.0f), add(exp(mul(x, splat(2.0f))), splat(1.0f))));
  return select_less(abs(x), splat(0.625f), near_zero, far);
}

}  // namespace
}  // namespace moe::cpu

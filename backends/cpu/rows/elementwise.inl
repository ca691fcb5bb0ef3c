// Row operations that treat every element alike. An element's result does not depend on its place in the row; NaN gives NaN.
#pragma once

namespace moe::cpu {
namespace {

template <class Fn>
inline void map(const float* x, float* out, int64_t n, Fn fn) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, fn(load(x + i)));
  if (i < n) store_n(out + i, fn(load_n(x + i, n - i)), n - i);
}

template <class Fn>
inline void map2(const float* a, const float* b, float* out, int64_t n, Fn fn) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, fn(load(a + i), load(b + i)));
  if (i < n) store_n(out + i, fn(load_n(a + i, n - i), load_n(b + i, n - i)), n - i);
}

inline void row_silu(const float* x, float* out, int64_t n) {
  map(x, out, n, [](F32 v) { return silu(v); });
}
inline void row_gelu(const float* x, float* out, int64_t n) {
  map(x, out, n, [](F32 v) { return gelu(v); });
}
inline void row_sigmoid(const float* x, float* out, int64_t n) {
  map(x, out, n, [](F32 v) { return sigmoid(v); });
}
inline void row_scale(const float* x, float factor, float* out, int64_t n) {
  map(x, out, n, [=](F32 v) { return mul(v, splat(factor)); });
}
inline void row_softcap(float* x, float cap, int64_t n) {
  map(x, x, n, [=](F32 v) { return mul(splat(cap), tanh(div(v, splat(cap)))); });
}
inline void row_add(const float* a, const float* b, float* out, int64_t n) {
  map2(a, b, out, n, [](F32 u, F32 v) { return add(u, v); });
}
inline void row_mul(const float* a, const float* b, float* out, int64_t n) {
  map2(a, b, out, n, [](F32 u, F32 v) { return mul(u, v); });
}
inline void row_axpy(float a, const float* x, float* y, int64_t n) {
  map2(x, y, y, n, [=](F32 u, F32 v) { return fma(splat(a), u, v); });
}

inline void row_glu(const float* gate, const float* up, float* out, int64_t n, GluParams p) {
  if (p.limit > 0) {
    const F32 limit = splat(p.limit);
    map2(gate, up, out, n, [=](F32 g, F32 u) {
      g = min(limit, g);
      u = max(splat(-p.limit), min(limit, u));
      return mul(mul(g, sigmoid(mul(splat(p.alpha), g))), add(u, splat(1.0f)));
    });
  } else if (p.gelu) {
    map2(gate, up, out, n, [](F32 g, F32 u) { return mul(gelu(g), u); });
  } else {
    map2(gate, up, out, n, [](F32 g, F32 u) { return mul(silu(g), u); });
  }
}

// Rotations are not fused: the same bits in every instruction set.
inline void rotate(F32 x0, F32 x1, F32 c, F32 s, F32& y0, F32& y1) {
  y0 = sub(mul(x0, c), mul(x1, s));
  y1 = add(mul(x0, s), mul(x1, c));
}

inline void row_rope_interleaved(const float* x, const float* cos, const float* sin, float* out, int64_t n_pairs) {
  int64_t i = 0;
  for (; i + kLanes <= n_pairs; i += kLanes) {
    F32 x0, x1, y0, y1, low, high;
    deinterleave(load(x + 2 * i), load(x + 2 * i + kLanes), x0, x1);
    rotate(x0, x1, load(cos + i), load(sin + i), y0, y1);
    interleave(y0, y1, low, high);
    store(out + 2 * i, low);
    store(out + 2 * i + kLanes, high);
  }
  for (; i < n_pairs; ++i) {
    const float x0 = x[2 * i];
    const float x1 = x[2 * i + 1];
    out[2 * i] = x0 * cos[i] - x1 * sin[i];
    out[2 * i + 1] = x0 * sin[i] + x1 * cos[i];
  }
}

inline void row_rope_half_split(const float* x, const float* cos, const float* sin, float* out, int64_t n_pairs) {
  F32 y0, y1;
  int64_t i = 0;
  for (; i + kLanes <= n_pairs; i += kLanes) {
    rotate(load(x + i), load(x + n_pairs + i), load(cos + i), load(sin + i), y0, y1);
    store(out + i, y0);
    store(out + n_pairs + i, y1);
  }
  const int64_t n = n_pairs - i;
  if (n == 0) return;
  rotate(load_n(x + i, n), load_n(x + n_pairs + i, n), load_n(cos + i, n), load_n(sin + i, n), y0, y1);
  store_n(out + i, y0, n);
  store_n(out + n_pairs + i, y1, n);
}

}  // namespace
}  // namespace moe::cpu

// Row operations with a sum or a maximum over the row. Sums run over kWays registers in a fixed order given by n alone.
#pragma once

namespace moe::cpu {
namespace {

constexpr int kWays = 4;

// Σ fn(register) over a row; lanes beyond n hold 0 before fn, so fn(0) must be 0 or the tail be treated by the caller.
template <class Fn>
inline float reduce_sum(int64_t n, Fn fn) {
  F32 way[kWays];
  for (F32& w : way) w = splat(0.0f);
  int64_t i = 0;
  for (; i + kWays * kLanes <= n; i += kWays * kLanes) {
    MOE_UNROLL for (int k = 0; k < kWays; ++k) way[k] = add(way[k], fn(i + k * kLanes, kLanes));
  }
  for (; i < n; i += kLanes) way[0] = add(way[0], fn(i, n - i < kLanes ? n - i : kLanes));
  return sum(add(add(way[0], way[1]), add(way[2], way[3])));
}

inline F32 load_upto(const float* p, int64_t n) { return n == kLanes ? load(p) : load_n(p, n); }
inline void store_upto(float* p, F32 a, int64_t n) { n == kLanes ? store(p, a) : store_n(p, a, n); }

// Σ x² in double: squares of floats neither overflow nor vanish there.
inline double row_sum_squares(const float* x, int64_t n) {
  F64 way[kWays];
  for (F64& w : way) w = splat64(0.0);
  int64_t i = 0;
  for (; i + kWays * kLanes <= n; i += kWays * kLanes) {
    MOE_UNROLL for (int k = 0; k < kWays; ++k) way[k] = add_square(way[k], load(x + i + k * kLanes));
  }
  for (; i < n; i += kLanes) way[0] = add_square(way[0], load_upto(x + i, n - i < kLanes ? n - i : kLanes));
  return sum(add(add(way[0], way[1]), add(way[2], way[3])));
}

inline float row_max(const float* x, int64_t n) {
  const F32 lowest = splat(-__builtin_inff());
  F32 way[kWays] = {lowest, lowest, lowest, lowest};
  int64_t i = 0;
  for (; i + kWays * kLanes <= n; i += kWays * kLanes) {
    MOE_UNROLL for (int k = 0; k < kWays; ++k) way[k] = max(load(x + i + k * kLanes), way[k]);
  }
  for (; i + kLanes <= n; i += kLanes) way[0] = max(load(x + i), way[0]);
  float best = largest(max(max(way[0], way[1]), max(way[2], way[3])));
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

// A row of nothing but −inf has no largest element to compare with: every term is 0.
inline float row_exp_minus_max(float* x, float max_of_row, int64_t n) {
  const F32 shift = splat(max_of_row == -__builtin_inff() ? 0.0f : max_of_row);
  return reduce_sum(n, [=](int64_t i, int64_t count) {
    F32 e = exp(sub(load_upto(x + i, count), shift));
    store_upto(x + i, e, count);
    if (count < kLanes) e = load_n(x + i, count);  // the lanes beyond the row hold exp(−max), not 0
    return e;
  });
}

// A row of nothing but −inf gives zeros.
inline void row_softmax(const float* x, float* out, int64_t n) {
  if (n == 0) return;
  const float best = row_max(x, n);
  if (out != x) __builtin_memmove(out, x, static_cast<size_t>(n) * sizeof(float));
  const float total = row_exp_minus_max(out, best, n);
  if (total == 0.0f) return;
  const F32 factor = splat(1.0f / total);
  map(out, out, n, [=](F32 v) { return mul(v, factor); });
}

inline float mean_of_squares(const float* x, float mean, int64_t n) {
  const float total = reduce_sum(n, [=](int64_t i, int64_t count) {
    F32 d = load_upto(x + i, count);
    if (count == kLanes) {
      d = sub(d, splat(mean));
    } else {
      float tail[kLanes] = {};
      for (int64_t k = 0; k < count; ++k) tail[k] = x[i + k] - mean;
      d = load(tail);
    }
    return mul(d, d);
  });
  return total / static_cast<float>(n);
}

inline void row_rms_norm(const float* x, const float* weight, float eps, float* out, int64_t n) {
  const F32 factor = splat(1.0f / __builtin_sqrtf(mean_of_squares(x, 0.0f, n) + eps));
  if (weight == nullptr) {
    map(x, out, n, [=](F32 v) { return mul(v, factor); });
  } else {
    map2(x, weight, out, n, [=](F32 v, F32 w) { return mul(mul(v, factor), w); });
  }
}

inline void row_rms_norm_grad(const RmsNormGradArgs& a) {
  const float root = 1.0f / __builtin_sqrtf(mean_of_squares(a.x, 0.0f, a.n) + a.eps);
  const F32 factor = splat(root);
  const auto du = [&a](int64_t i, int64_t n) {
    const F32 dy = load_upto(a.dy + i, n);
    return a.weight == nullptr ? dy : mul(dy, load_upto(a.weight + i, n));
  };
  const float total = reduce_sum(a.n, [&](int64_t i, int64_t n) { return mul(du(i, n), mul(load_upto(a.x + i, n), factor)); });
  const F32 along = splat(total / static_cast<float>(a.n));
  for (int64_t i = 0; i < a.n; i += kLanes) {
    const int64_t n = a.n - i < kLanes ? a.n - i : kLanes;
    const F32 u = mul(load_upto(a.x + i, n), factor), d = du(i, n);
    if (a.sums != nullptr) store_upto(a.sums + i, fma(load_upto(a.dy + i, n), u, load_upto(a.sums + i, n)), n);
    store_upto(a.dx + i, mul(sub(d, mul(u, along)), factor), n);
  }
}

inline void row_layer_norm(const float* x, const float* weight, const float* bias, float eps, float* out, int64_t n) {
  const float mean = reduce_sum(n, [=](int64_t i, int64_t count) { return load_upto(x + i, count); }) / static_cast<float>(n);
  const float factor = 1.0f / __builtin_sqrtf(mean_of_squares(x, mean, n) + eps);
  map(x, out, n, [=](F32 v) { return mul(sub(v, splat(mean)), splat(factor)); });
  if (weight != nullptr) row_mul(out, weight, out, n);
  if (bias != nullptr) row_add(out, bias, out, n);
}

}  // namespace
}  // namespace moe::cpu

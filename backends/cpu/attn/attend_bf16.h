// Attention with products of bfloat16 pairs: VDPBF16PS multiplies 32 numbers where FMA multiplies 16.
//
//   a step of keys     [ k[2s] | k[2s+1] ]          two elements of one key
//   a step of values   [ v[2s][i] | v[2s+1][i] ]    one element of two keys
//   lane of an accumulator: a = (a + x[1]·y[1]) + x[0]·y[0], both steps fused; subnormals count as 0
//
// Queries, cached rows and weights are rounded to nearest even; the sum adds the rounded weights, so a query's weights add up
// to 1. A weight's rounding is 2^-9 of it, a hundred times the error of its exponential here.
#pragma once

#include "backends/cpu/attn/attend.inl"

namespace moe::cpu {
namespace {

inline __m512bh as_pairs(F32 a) { return reinterpret_cast<__m512bh>(a.v); }
inline F32 as_steps(__m512i a) { return {_mm512_castsi512_ps(a)}; }
inline __m512i to_bf16x32(F32 low, F32 high) { return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high.v, low.v)); }

struct PairSteps {
  static constexpr int kWidth = 2;
  static F32 madd(F32 a, F32 b, F32 c) { return {_mm512_dpbf16_ps(c.v, as_pairs(a), as_pairs(b))}; }

  // 2^t = 2^n · 2^r, |r| ≤ 1/2; the minimax polynomial of degree 4 errs by 3e-6. Anything below e^-200 is 0.
  static F32 exp_minus(F32 x, F32 top) {
    const F32 t = mul(max(splat(-200.0f), sub(x, top)), splat(1.44269504f));
    const F32 n = round_even(t);
    const F32 r = sub(t, n);
    F32 p = splat(0.00957010143f);
    p = fma(p, r, splat(0.0559178603f));
    p = fma(p, r, splat(0.240247448f));
    p = fma(p, r, splat(0.693121815f));
    p = fma(p, r, splat(0.999999261f));
    return {_mm512_scalef_ps(p.v, n.v)};
  }

  static F32 put(F32 first, F32 second, float* weights, int64_t k, F32 sum) {
    const F32 pairs = as_steps(to_bf16x32(first, second));
    store(weights + k / 2, pairs);
    return madd(pairs, as_steps(_mm512_set1_epi16(0x3f80)), sum);
  }

  template <class Cache, bool kWhole>
  static F32 steps(const void* row, int64_t i, int64_t n) {
    return as_steps(to_bf16x32(cache_at<Cache, kWhole>(row, 2 * i, n), cache_at<Cache, kWhole>(row, 2 * i + 16, n)));
  }
  template <class Cache, bool kWhole>
  static F32 rows(const void* const* row, int64_t i, int64_t n) {
    const __m512i words = to_bf16x32(cache_at<Cache, kWhole>(row[0], i, n), cache_at<Cache, kWhole>(row[1], i, n));
    return as_steps(_mm512_permutexvar_epi16(pair_order(), words));
  }
  // 0 16 1 17 ...
  static __m512i pair_order() {
    const __m512i n = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(_mm512_or_si512(n, _mm512_slli_epi32(n, 16)), _mm512_set1_epi32(16 << 16));
  }
  // The pair with 0 in place of the other number.
  static F32 half(F32 step, int which) {
    return as_steps(_mm512_and_si512(_mm512_castps_si512(step.v), _mm512_set1_epi32(which ? -65536 : 65535)));
  }
};

constexpr AttentionKernels attention_of_pairs() {
  AttentionKernels k{};
  add_cache<PairSteps, CachePlain<PlainF16>>(k, DType::kF16);
  add_cache<PairSteps, CacheQ8_0>(k, DType::kQ8_0);
  k.attend = attend_chunk<PairSteps>;
  return k;
}

}  // namespace
}  // namespace moe::cpu

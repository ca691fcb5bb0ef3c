// Matrix products of bfloat16 by VDPBF16PS: a word of a panel is two elements with successive k, see gemm_pack.inl.
//
//   lane:  c = (c + a[2p+1] · b[2p+1]) + a[2p] · b[2p]     both steps fused; subnormals count as 0; an odd k ends with a 0
#pragma once

#include "backends/cpu/gemm/gemm_tiles.inl"
#include "backends/cpu/vec/avx512.h"

namespace moe::cpu {
namespace {

struct GemmPairBF16 {
  using In = uint16_t;
  static constexpr int kPerWord = 2;

  static F32 along(const uint16_t* p) { return {_mm512_castsi512_ps(_mm512_loadu_si512(p))}; }
  static F32 along_n(const uint16_t* p, int64_t n) { return {_mm512_castsi512_ps(_mm512_maskz_loadu_epi16((1u << n) - 1, p))}; }

  static F32 pairs(__m256i first, __m256i second) {
    return {_mm512_castsi512_ps(
        _mm512_or_si512(_mm512_cvtepu16_epi32(first), _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16)))};
  }
  static __m256i halves(const uint16_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static __m256i halves_n(const uint16_t* p, int64_t n) { return _mm256_maskz_loadu_epi16(first_lanes(n), p); }
  static F32 across(const uint16_t* p, const uint16_t* next) {
    return pairs(halves(p), next ? halves(next) : _mm256_setzero_si256());
  }
  static F32 across_n(const uint16_t* p, const uint16_t* next, int64_t n) {
    return pairs(halves_n(p, n), next ? halves_n(next, n) : _mm256_setzero_si256());
  }

  static F32 mul_add(F32 a, F32 b, F32 c) {
    return {_mm512_dpbf16_ps(c.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
  }
};

}  // namespace
}  // namespace moe::cpu

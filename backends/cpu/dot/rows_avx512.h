// A few tokens with AVX-512 VNNI: four rows in a register. See dot/a8_rows.inl.
#pragma once

#include "backends/cpu/dot/panel_avx512.h"

namespace moe::cpu {
namespace {

constexpr int kRowLanes = 4;
constexpr int kRowTokens = 4;
constexpr int kRowVecs = 2;  // RowBytes that hold 32 elements of every row
template <class Format>
using RowBytes = U8x64;

// (kRowLanes, 32 bytes) → (2, kRowLanes, 16 bytes)
inline void split_rows(const Bytes32* rows, uint8_t* out) {
  const __m512i a = _mm512_inserti64x4(_mm512_castsi256_si512(rows[0].v), rows[1].v, 1);
  const __m512i b = _mm512_inserti64x4(_mm512_castsi256_si512(rows[2].v), rows[3].v, 1);
  _mm512_store_si512(out, _mm512_shuffle_i64x2(a, b, 0x88));
  _mm512_store_si512(out + 64, _mm512_shuffle_i64x2(a, b, 0xdd));
}

// What dot_lanes counts too much for each unit of the sum of the activations.
template <class Format>
constexpr int kRowOffset = Format::kSigned ? 128 : Format::kOffset;

// w: (kGroup / 16, kRowLanes, 16); x: (kGroup) → in each 128-bit lane four sums, which together are that row's dot product
template <class Format>
inline I32 dot_lanes(const uint8_t* w, const int8_t* x) {
  __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 2
  for (int i = 0; i < Format::kGroup / 16; ++i) {
    __m512i bytes = _mm512_load_si512(w + 64 * i);
    if constexpr (Format::kSigned) bytes = _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
    const __m128i x16 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + 16 * i));
    sum = _mm512_dpbusd_epi32(sum, bytes, _mm512_broadcast_i32x4(x16));
  }
  return {sum};
}

// In each lane: the sum over the lane of v[0], of v[1], of v[2], of v[3].
inline I32 add_across(const I32* v) {
  const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0].v, v[1].v), _mm512_unpackhi_epi32(v[0].v, v[1].v));
  const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2].v, v[3].v), _mm512_unpackhi_epi32(v[2].v, v[3].v));
  return {_mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))};
}

// A 4x4 transpose of the dwords in each lane.
inline void transpose_lanes(const int32_t* in, I32* out) {
  const __m512i v0 = _mm512_load_si512(in), v1 = _mm512_load_si512(in + 16);
  const __m512i v2 = _mm512_load_si512(in + 32), v3 = _mm512_load_si512(in + 48);
  const __m512i a = _mm512_unpacklo_epi32(v0, v1), b = _mm512_unpackhi_epi32(v0, v1);
  const __m512i c = _mm512_unpacklo_epi32(v2, v3), d = _mm512_unpackhi_epi32(v2, v3);
  out[0].v = _mm512_unpacklo_epi64(a, c);
  out[1].v = _mm512_unpackhi_epi64(a, c);
  out[2].v = _mm512_unpacklo_epi64(b, d);
  out[3].v = _mm512_unpackhi_epi64(b, d);
}

inline void store(int32_t* p, I32 a) { _mm512_store_si512(p, a.v); }

template <int kFactor, int kFirst, int kCount>
inline I32 less_excess(I32 dot, const BlockA8& x) {
  return {_mm512_sub_epi32(dot.v, _mm512_slli_epi32(splat_sum<kFirst, kCount>(x), __builtin_ctz(kFactor)))};
}

}  // namespace
}  // namespace moe::cpu

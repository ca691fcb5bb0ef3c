// A few tokens with AVX2: two rows in a register. See dot/a8_rows.inl.
#pragma once

#include "backends/cpu/dot/panel_avx2.h"

namespace moe::cpu {
namespace {

constexpr int kRowLanes = 2;
constexpr int kRowTokens = 4;
constexpr int kRowVecs = 2;  // RowBytes that hold 32 elements of every row
template <class Format>
using RowBytes = U8x32;

// (kRowLanes, 32 bytes) → (2, kRowLanes, 16 bytes)
inline void split_rows(const Bytes32* rows, uint8_t* out) {
  store_bytes(out, {_mm256_permute2x128_si256(rows[0].v, rows[1].v, 0x20)});
  store_bytes(out + 32, {_mm256_permute2x128_si256(rows[0].v, rows[1].v, 0x31)});
}

// What dot_lanes counts too much for each unit of the sum of the activations.
template <class Format>
constexpr int kRowOffset = Format::kOffset;

// w: (kGroup / 16, kRowLanes, 16); x: (kGroup) → in each 128-bit lane four sums, which together are that row's dot product
template <class Format>
inline I32 dot_lanes(const uint8_t* w, const int8_t* x) {
  constexpr int kRegisters = Format::kGroup / 16;
  constexpr bool kFits = !Format::kSigned && kRegisters * 2 * 127 * Format::kMax <= 32767;
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i pairs = _mm256_setzero_si256(), sum = pairs;
#pragma GCC unroll 2
  for (int i = 0; i < kRegisters; ++i) {
    const __m256i bytes = load_bytes(w + 32 * i, U8x32{}).v;
    const __m256i x16 = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + 16 * i)));
    if constexpr (Format::kSigned) {
      pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(bytes), _mm256_sign_epi8(x16, bytes));
    } else {
      const __m256i products = _mm256_maddubs_epi16(bytes, x16);
      pairs = kFits ? _mm256_add_epi16(pairs, products) : products;
    }
    if (!kFits || i + 1 == kRegisters) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
  }
  return {sum};
}

// In each lane: the sum over the lane of v[0], of v[1], of v[2], of v[3].
inline I32 add_across(const I32* v) {
  return {_mm256_hadd_epi32(_mm256_hadd_epi32(v[0].v, v[1].v), _mm256_hadd_epi32(v[2].v, v[3].v))};
}

inline __m256i load_lanes(const int32_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }

// A 4x4 transpose of the dwords in each lane.
inline void transpose_lanes(const int32_t* in, I32* out) {
  const __m256i v0 = load_lanes(in), v1 = load_lanes(in + 8), v2 = load_lanes(in + 16), v3 = load_lanes(in + 24);
  const __m256i a = _mm256_unpacklo_epi32(v0, v1), b = _mm256_unpackhi_epi32(v0, v1);
  const __m256i c = _mm256_unpacklo_epi32(v2, v3), d = _mm256_unpackhi_epi32(v2, v3);
  out[0].v = _mm256_unpacklo_epi64(a, c);
  out[1].v = _mm256_unpackhi_epi64(a, c);
  out[2].v = _mm256_unpacklo_epi64(b, d);
  out[3].v = _mm256_unpackhi_epi64(b, d);
}

inline void store(int32_t* p, I32 a) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), a.v); }

template <int kFactor, int kFirst, int kCount>
inline I32 less_excess(I32 dot, const BlockA8& x) {
  return {_mm256_sub_epi32(dot.v, times_power_of_two<kFactor>(splat_sum<kFirst, kCount>(x)))};
}

}  // namespace
}  // namespace moe::cpu

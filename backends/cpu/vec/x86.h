// Byte registers of 16 and 32, shared by the x86 instruction sets (AVX2 and F16C at least). See vec/scalar.h for the meaning.
#pragma once

#if defined(__clang__)
#include <immintrin.h>
#else  // GCC 12 warns about the undefined registers that its own AVX-512 intrinsics start from (GCC bug 105593)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include "backends/cpu/kernels.h"
#include "core/half.h"

namespace moe::cpu {
namespace {

inline float half_to_float(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }

// SAD against 0 adds unsigned bytes, hence the detour over q + 128.
inline int sum_s8x16(const int8_t* p) {
  const __m128i q = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), _mm_set1_epi8(-128));
  const __m128i halves = _mm_sad_epu8(q, _mm_setzero_si128());
  return _mm_cvtsi128_si32(halves) + _mm_extract_epi32(halves, 2) - 16 * 128;
}

inline void store_scaled(float* out, __m256i dwords, float factor) {
  _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtepi32_ps(dwords), _mm256_set1_ps(factor)));
}
inline void scaled_u8x8(uint64_t bytes, float factor, float* out) {
  store_scaled(out, _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes))), factor);
}
inline void scaled_s8x8(uint64_t bytes, float factor, float* out) {
  store_scaled(out, _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes))), factor);
}

struct U8x16 {
  __m128i v;
};
inline U8x16 load_bytes(const uint8_t* p, U8x16) { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))}; }
inline void store_bytes(uint8_t* p, U8x16 a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), a.v); }
// There are no byte shifts: 16-bit ones, and the mask removes what came from the neighbour.
inline U8x16 bits(U8x16 a, int shift, int width) {
  return {_mm_and_si128(_mm_srli_epi16(a.v, shift), _mm_set1_epi8(static_cast<char>((1 << width) - 1)))};
}
inline U8x16 join(U8x16 low, U8x16 high, int shift) { return {_mm_or_si128(low.v, _mm_slli_epi16(high.v, shift))}; }
inline U8x16 lookup(const int8_t* table, U8x16 index) {
  return {_mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)), index.v)};
}

struct Bytes32 {
  __m256i v;
};
using U8x32 = Bytes32;
inline Bytes32 load32(const void* p) { return {_mm256_loadu_si256(static_cast<const __m256i*>(p))}; }
inline Bytes32 load16x2(const void* low, const void* high) {
  return {_mm256_loadu2_m128i(static_cast<const __m128i*>(high), static_cast<const __m128i*>(low))};
}
inline void store32(void* p, Bytes32 a) { _mm256_storeu_si256(static_cast<__m256i*>(p), a.v); }
inline void store_halves(void* p, Bytes32 a) {  // the same bytes by two stores, for loads of 16
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(a.v));
  _mm_storeu_si128(static_cast<__m128i*>(p) + 1, _mm256_extracti128_si256(a.v, 1));
}
inline U8x32 load_bytes(const uint8_t* p, U8x32) { return load32(p); }
inline void store_bytes(uint8_t* p, U8x32 a) { store32(p, a); }
inline U8x32 bits(U8x32 a, int shift, int width) {
  return {_mm256_and_si256(_mm256_srli_epi16(a.v, shift), _mm256_set1_epi8(static_cast<char>((1 << width) - 1)))};
}
inline U8x32 join(U8x32 low, U8x32 high, int shift) { return {_mm256_or_si256(low.v, _mm256_slli_epi16(high.v, shift))}; }
inline U8x32 lookup(const int8_t* table, U8x32 index) {
  const __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm256_shuffle_epi8(both, index.v)};
}

// Each byte of the word goes to eight lanes; lane j keeps bit j % 8 of it.
inline Bytes32 five_bits(const void* nibbles, uint32_t fifth) {
  const __m128i packed = _mm_loadu_si128(static_cast<const __m128i*>(nibbles));
  const __m256i both = _mm256_set_m128i(_mm_srli_epi16(packed, 4), packed);
  const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i own_bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i word = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(fifth)), spread);
  const __m256i is_set = _mm256_cmpeq_epi8(_mm256_and_si256(word, own_bit), own_bit);
  return {_mm256_or_si256(_mm256_and_si256(both, _mm256_set1_epi8(15)), _mm256_and_si256(is_set, _mm256_set1_epi8(16)))};
}

}  // namespace
}  // namespace moe::cpu

// The register wrapper of the reference: a "vector" is one float. Every kernel runs over these functions, so this file is also
// the list of what an instruction set must provide; vec/avx2.h and vec/avx512.h answer the same calls with wider registers.
//
//   F32       kLanes floats
//   F64       kLanes doubles, for sums
//   Bytes32   32 bytes of one weight row          U8x16   16 bytes; PanelBytes: the bytes of kLanes dwords, see dot/panel_*.h
//
// fma(a, b, c) is a·b + c, fused where the instruction set has it: here it rounds twice.
// min and max return their second argument when either is NaN, like MINPS: min(limit, x) keeps a NaN, max(x, best) drops it.
#pragma once

#include "backends/cpu/kernels.h"
#include "backends/cpu/vec/unroll.h"
#include "core/half.h"

namespace moe::cpu {
namespace {

constexpr int kLanes = 1;

struct F32 {
  float v;
};

inline F32 load(const float* p) { return {*p}; }
inline F32 load_n(const float* p, int64_t n) { return {n > 0 ? *p : 0.0f}; }  // the first n lanes, n < kLanes; the rest 0
inline void store(float* p, F32 a) { *p = a.v; }
inline void store_n(float* p, F32 a, int64_t n) {
  if (n > 0) *p = a.v;
}
inline F32 splat(float x) { return {x}; }
inline F32 add(F32 a, F32 b) { return {a.v + b.v}; }
inline F32 sub(F32 a, F32 b) { return {a.v - b.v}; }
inline F32 mul(F32 a, F32 b) { return {a.v * b.v}; }
inline F32 div(F32 a, F32 b) { return {a.v / b.v}; }
inline F32 sqrt(F32 a) { return {__builtin_sqrtf(a.v)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {a.v * b.v + c.v}; }
inline F32 min(F32 a, F32 b) { return {a.v < b.v ? a.v : b.v}; }
inline F32 max(F32 a, F32 b) { return {a.v > b.v ? a.v : b.v}; }
inline F32 abs(F32 a) { return {float_from_bits(float_bits(a.v) & 0x7fffffffu)}; }
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) { return a.v < b.v ? yes : no; }  // NaN is not less
inline F32 nan_to_zero(F32 a) { return {a.v == a.v ? a.v : 0.0f}; }
inline F32 round_even(F32 a) { return {(a.v + 0x1.8p23f) - 0x1.8p23f}; }  // |a| < 2^22
inline F32 pow2(F32 n) {
  return {float_from_bits(static_cast<uint32_t>(static_cast<int32_t>(n.v) + 127) << 23)};
}  // n in -126..127
inline float sum(F32 a) { return a.v; }
inline float largest(F32 a) { return a.v; }

struct F64 {
  double v;
};
inline F64 splat64(double x) { return {x}; }
inline F64 add(F64 a, F64 b) { return {a.v + b.v}; }
inline F64 add_square(F64 sum, F32 x) {  // the square of a float is exact: fused or not, one rounding
  return {sum.v + static_cast<double>(x.v) * static_cast<double>(x.v)};
}
inline double sum(F64 a) { return a.v; }

// Half precision and bytes.
inline float half_to_float(uint16_t h) { return f16_to_f32(h); }
inline F32 load_f16(const uint16_t* p) { return {f16_to_f32(*p)}; }
inline F32 load_f16_n(const uint16_t* p, int64_t n) { return {n > 0 ? f16_to_f32(*p) : 0.0f}; }
inline F32 load_bf16(const uint16_t* p) { return {bf16_to_f32(*p)}; }
inline F32 load_bf16_n(const uint16_t* p, int64_t n) { return {n > 0 ? bf16_to_f32(*p) : 0.0f}; }
inline void store_f16(uint16_t* p, F32 a) { *p = f32_to_f16(a.v); }
inline void store_f16_n(uint16_t* p, F32 a, int64_t n) {
  if (n > 0) *p = f32_to_f16(a.v);
}
inline void store_bf16(uint16_t* p, F32 a) { *p = f32_to_bf16(a.v); }
inline void store_bf16_n(uint16_t* p, F32 a, int64_t n) {
  if (n > 0) *p = f32_to_bf16(a.v);
}
inline F32 load_u8(const uint8_t* p) { return {static_cast<float>(*p)}; }
inline F32 load_s8(const int8_t* p) { return {static_cast<float>(*p)}; }
inline void store_s8(int8_t* p, F32 a) { *p = static_cast<int8_t>(round_even(a).v); }  // |a| ≤ 127, to nearest even
inline int sum_s8x16(const int8_t* p) {
  int total = 0;
  for (int i = 0; i < 16; ++i) total += p[i];
  return total;
}

// (x0 x1 x2 ...) in two registers a, b ↔ the even and the odd elements.
inline void deinterleave(F32 a, F32 b, F32& even, F32& odd) { even = a, odd = b; }
inline void interleave(F32 even, F32 odd, F32& a, F32& b) { a = even, b = odd; }

inline void transpose(F32*) {}  // kLanes rows of kLanes: row i becomes column i

// Eight bytes of a little-endian word as floats times a factor. out: (8)
inline void scaled_u8x8(uint64_t bytes, float factor, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = factor * static_cast<float>(bytes >> 8 * i & 255);
}
inline void scaled_s8x8(uint64_t bytes, float factor, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = factor * static_cast<float>(static_cast<int8_t>(bytes >> 8 * i));
}

struct U8x16 {
  uint8_t v[16];
};
inline U8x16 load_bytes(const uint8_t* p, U8x16) {
  U8x16 a;
  std::memcpy(a.v, p, 16);
  return a;
}
inline void store_bytes(uint8_t* p, U8x16 a) { std::memcpy(p, a.v, 16); }
inline U8x16 bits(U8x16 a, int shift, int width) {  // (a >> shift) & (2^width − 1) in each byte
  for (int i = 0; i < 16; ++i) a.v[i] = static_cast<uint8_t>(a.v[i] >> shift & ((1 << width) - 1));
  return a;
}
inline U8x16 join(U8x16 low, U8x16 high, int shift) {  // low | high << shift
  for (int i = 0; i < 16; ++i) low.v[i] = static_cast<uint8_t>(low.v[i] | high.v[i] << shift);
  return low;
}
inline U8x16 lookup(const int8_t* table, U8x16 index) {  // table: (16), index 0..15
  for (int i = 0; i < 16; ++i) index.v[i] = static_cast<uint8_t>(table[index.v[i]]);
  return index;
}

struct Bytes32 {
  uint8_t v[32];
};
inline Bytes32 load32(const void* p) {
  Bytes32 a;
  std::memcpy(a.v, p, 32);
  return a;
}
inline Bytes32 load16x2(const void* low, const void* high) {
  Bytes32 a;
  std::memcpy(a.v, low, 16);
  std::memcpy(a.v + 16, high, 16);
  return a;
}
inline void store32(void* p, Bytes32 a) { std::memcpy(p, a.v, 32); }
inline void store_halves(void* p, Bytes32 a) { store32(p, a); }  // the same, for loads of 16
// 16 bytes of nibbles as 32 bytes, the low ones first, with bit j of `fifth` as bit 4 of byte j.
inline Bytes32 five_bits(const void* nibbles, uint32_t fifth) {
  Bytes32 a = load16x2(nibbles, nibbles);
  for (uint32_t j = 0; j < 32; ++j) {
    a.v[j] = static_cast<uint8_t>((j < 16 ? a.v[j] & 15 : a.v[j] >> 4) | (fifth >> j & 1) << 4);
  }
  return a;
}

}  // namespace
}  // namespace moe::cpu

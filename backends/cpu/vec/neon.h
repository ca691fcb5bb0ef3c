// The register wrapper over Advanced SIMD of ARMv8.0: 8 floats in two registers, as wide as AVX2's so that sums have the same
// order, and with that the same bits, on both. See vec/scalar.h for the meaning of each function.
#pragma once

#include <arm_neon.h>

#include "backends/cpu/kernels.h"
#include "backends/cpu/vec/unroll.h"
#include "core/half.h"

namespace moe::cpu {
namespace {

constexpr int kLanes = 8;

struct F32 {
  float32x4_t low, high;
};

inline F32 load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
inline void store(float* p, F32 a) {
  vst1q_f32(p, a.low);
  vst1q_f32(p + 4, a.high);
}
// There are no masked loads: a row's end goes through the stack.
inline F32 load_n(const float* p, int64_t n) {
  float buffer[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return load(buffer);
}
inline void store_n(float* p, F32 a, int64_t n) {
  float buffer[kLanes];
  store(buffer, a);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}
inline F32 splat(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline F32 add(F32 a, F32 b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
inline F32 sub(F32 a, F32 b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
inline F32 mul(F32 a, F32 b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
inline F32 div(F32 a, F32 b) { return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)}; }
inline F32 sqrt(F32 a) { return {vsqrtq_f32(a.low), vsqrtq_f32(a.high)}; }
inline F32 fma(F32 a, F32 b, F32 c) { return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)}; }
inline F32 select(uint32x4_t low, uint32x4_t high, F32 yes, F32 no) {
  return {vbslq_f32(low, yes.low, no.low), vbslq_f32(high, yes.high, no.high)};
}
inline F32 select_less(F32 a, F32 b, F32 yes, F32 no) {
  return select(vcltq_f32(a.low, b.low), vcltq_f32(a.high, b.high), yes, no);
}
// FMIN and FMAX give NaN when either operand is NaN, FMINNM and FMAXNM the other operand; neither is what is wanted here.
inline F32 min(F32 a, F32 b) { return select_less(a, b, a, b); }
inline F32 max(F32 a, F32 b) { return select_less(b, a, a, b); }
inline F32 abs(F32 a) { return {vabsq_f32(a.low), vabsq_f32(a.high)}; }
inline F32 nan_to_zero(F32 a) { return select(vceqq_f32(a.low, a.low), vceqq_f32(a.high, a.high), a, splat(0.0f)); }
inline F32 round_even(F32 a) { return {vrndnq_f32(a.low), vrndnq_f32(a.high)}; }
inline float32x4_t pow2(float32x4_t n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}
inline F32 pow2(F32 n) { return {pow2(n.low), pow2(n.high)}; }

// Halves are added until one lane is left: lane i + lane i + 4, then + 2, + 1.
inline float sum(F32 a) {
  const float32x4_t x4 = vaddq_f32(a.low, a.high);
  const float32x2_t x2 = vadd_f32(vget_low_f32(x4), vget_high_f32(x4));
  return vpadds_f32(x2);
}
inline float largest(F32 a) { return vmaxvq_f32(vmaxq_f32(a.low, a.high)); }

struct F64 {
  float64x2_t part[4];
};
inline F64 splat64(double x) { return {{vdupq_n_f64(x), vdupq_n_f64(x), vdupq_n_f64(x), vdupq_n_f64(x)}}; }
inline F64 add(F64 a, F64 b) {
  return {{vaddq_f64(a.part[0], b.part[0]), vaddq_f64(a.part[1], b.part[1]), vaddq_f64(a.part[2], b.part[2]),
           vaddq_f64(a.part[3], b.part[3])}};
}
inline F64 add_square(F64 sum, F32 x) {
  const float64x2_t a = vcvt_f64_f32(vget_low_f32(x.low)), b = vcvt_high_f64_f32(x.low);
  const float64x2_t c = vcvt_f64_f32(vget_low_f32(x.high)), d = vcvt_high_f64_f32(x.high);
  return {
      {vfmaq_f64(sum.part[0], a, a), vfmaq_f64(sum.part[1], b, b), vfmaq_f64(sum.part[2], c, c), vfmaq_f64(sum.part[3], d, d)}};
}
inline double sum(F64 a) {  // lane i + lane i + 4, then + 2, + 1
  return vpaddd_f64(vaddq_f64(vaddq_f64(a.part[0], a.part[2]), vaddq_f64(a.part[1], a.part[3])));
}

// Half precision.
inline float half_to_float(uint16_t h) { return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0); }
inline uint16x8_t load_halves_n(const uint16_t* p, int64_t n) {
  uint16_t buffer[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return vld1q_u16(buffer);
}
inline F32 from_f16(uint16x8_t h) {
  return {vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(h))), vcvt_high_f32_f16(vreinterpretq_f16_u16(h))};
}
inline F32 from_bf16(uint16x8_t h) {
  return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)), vreinterpretq_f32_u32(vshll_high_n_u16(h, 16))};
}
inline F32 load_f16(const uint16_t* p) { return from_f16(vld1q_u16(p)); }
inline F32 load_f16_n(const uint16_t* p, int64_t n) { return from_f16(load_halves_n(p, n)); }
inline F32 load_bf16(const uint16_t* p) { return from_bf16(vld1q_u16(p)); }
inline F32 load_bf16_n(const uint16_t* p, int64_t n) { return from_bf16(load_halves_n(p, n)); }
// The processor keeps a NaN's payload; f32_to_f16 gives the one quiet NaN of its sign.
inline uint16x8_t to_f16(F32 a) {
  const uint16x8_t h = vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.low), a.high));
  const uint16x8_t sign = vandq_u16(h, vdupq_n_u16(0x8000));
  const uint16x8_t is_nan = vcgtq_u16(veorq_u16(h, sign), vdupq_n_u16(0x7c00));
  return vbslq_u16(is_nan, vorrq_u16(sign, vdupq_n_u16(0x7e00)), h);
}
inline void store_f16(uint16_t* p, F32 a) { vst1q_u16(p, to_f16(a)); }
inline void store_f16_n(uint16_t* p, F32 a, int64_t n) {
  uint16_t buffer[kLanes];
  store_f16(buffer, a);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}

// The bits of f32_to_bf16.
inline uint16x4_t to_bf16(float32x4_t a) {
  const uint32x4_t u = vreinterpretq_u32_f32(a), high = vshrq_n_u32(u, 16);
  const uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
  const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
  return vmovn_u32(vbslq_u32(vceqq_f32(a, a), rounded, vorrq_u32(high, vdupq_n_u32(64))));
}
inline void store_bf16(uint16_t* p, F32 a) { vst1q_u16(p, vcombine_u16(to_bf16(a.low), to_bf16(a.high))); }
inline void store_bf16_n(uint16_t* p, F32 a, int64_t n) {
  uint16_t buffer[kLanes];
  store_bf16(buffer, a);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}

// Bytes to and from floats.
inline F32 from_u8(uint8x8_t bytes) {
  const uint16x8_t words = vmovl_u8(bytes);
  return {vcvtq_f32_u32(vmovl_u16(vget_low_u16(words))), vcvtq_f32_u32(vmovl_high_u16(words))};
}
inline F32 from_s8(int8x8_t bytes) {
  const int16x8_t words = vmovl_s8(bytes);
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(words))), vcvtq_f32_s32(vmovl_high_s16(words))};
}
inline F32 load_u8(const uint8_t* p) { return from_u8(vld1_u8(p)); }
inline F32 load_s8(const int8_t* p) { return from_s8(vld1_s8(p)); }
inline void store_s8(int8_t* p, F32 a) {
  const int16x4_t low = vqmovn_s32(vcvtnq_s32_f32(a.low));
  vst1_s8(p, vqmovn_s16(vqmovn_high_s32(low, vcvtnq_s32_f32(a.high))));
}
inline int sum_s8x16(const int8_t* p) { return vaddlvq_s8(vld1q_s8(p)); }
inline void scaled_u8x8(uint64_t bytes, float factor, float* out) {
  store(out, mul(from_u8(vcreate_u8(bytes)), splat(factor)));
}
inline void scaled_s8x8(uint64_t bytes, float factor, float* out) {
  store(out, mul(from_s8(vcreate_s8(bytes)), splat(factor)));
}

inline void deinterleave(F32 a, F32 b, F32& even, F32& odd) {
  even = {vuzp1q_f32(a.low, a.high), vuzp1q_f32(b.low, b.high)};
  odd = {vuzp2q_f32(a.low, a.high), vuzp2q_f32(b.low, b.high)};
}
inline void interleave(F32 even, F32 odd, F32& a, F32& b) {
  a = {vzip1q_f32(even.low, odd.low), vzip2q_f32(even.low, odd.low)};
  b = {vzip1q_f32(even.high, odd.high), vzip2q_f32(even.high, odd.high)};
}

inline void transpose4(float32x4_t* r) {
  const float32x4_t a = vzip1q_f32(r[0], r[2]), b = vzip2q_f32(r[0], r[2]);
  const float32x4_t c = vzip1q_f32(r[1], r[3]), d = vzip2q_f32(r[1], r[3]);
  r[0] = vzip1q_f32(a, c), r[1] = vzip2q_f32(a, c), r[2] = vzip1q_f32(b, d), r[3] = vzip2q_f32(b, d);
}
// kLanes rows become kLanes columns: four blocks of 4x4, of which two change places.
inline void transpose(F32* rows) {
  float32x4_t block[4][4];
  for (int j = 0; j < 4; ++j) {
    block[0][j] = rows[j].low, block[1][j] = rows[4 + j].low;
    block[2][j] = rows[j].high, block[3][j] = rows[4 + j].high;
  }
  for (auto& b : block) transpose4(b);
  for (int j = 0; j < 4; ++j) rows[j] = {block[0][j], block[1][j]}, rows[4 + j] = {block[2][j], block[3][j]};
}

// Shift counts are constants once inlined; the operators of vector types, unlike the intrinsics, take them as arguments.
struct U8x16 {
  uint8x16_t v;
};
inline U8x16 load_bytes(const uint8_t* p, U8x16) { return {vld1q_u8(p)}; }
inline void store_bytes(uint8_t* p, U8x16 a) { vst1q_u8(p, a.v); }
inline U8x16 bits(U8x16 a, int shift, int width) {
  const uint8x16_t shifted = a.v >> vdupq_n_u8(static_cast<uint8_t>(shift));
  return {shift + width == 8 ? shifted : vandq_u8(shifted, vdupq_n_u8(static_cast<uint8_t>((1 << width) - 1)))};
}
inline U8x16 join(U8x16 low, U8x16 high, int shift) {
  return {vorrq_u8(low.v, high.v << vdupq_n_u8(static_cast<uint8_t>(shift)))};
}
inline U8x16 lookup(const int8_t* table, U8x16 index) { return {vreinterpretq_u8_s8(vqtbl1q_s8(vld1q_s8(table), index.v))}; }

struct Bytes32 {
  uint8x16_t low, high;
};
inline Bytes32 load16x2(const void* low, const void* high) {
  return {vld1q_u8(static_cast<const uint8_t*>(low)), vld1q_u8(static_cast<const uint8_t*>(high))};
}
inline Bytes32 load32(const void* p) { return load16x2(p, static_cast<const uint8_t*>(p) + 16); }
inline void store32(void* p, Bytes32 a) {
  vst1q_u8(static_cast<uint8_t*>(p), a.low);
  vst1q_u8(static_cast<uint8_t*>(p) + 16, a.high);
}
inline void store_halves(void* p, Bytes32 a) { store32(p, a); }
// Each byte of the word goes to eight lanes; lane j keeps bit j % 8 of it.
inline Bytes32 five_bits(const void* nibbles, uint32_t fifth) {
  const uint8x16_t packed = vld1q_u8(static_cast<const uint8_t*>(nibbles));
  const uint8x16_t own_bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
  const uint8x16_t word = vreinterpretq_u8_u32(vdupq_n_u32(fifth));
  const uint8x16_t first = vcombine_u8(vdup_laneq_u8(word, 0), vdup_laneq_u8(word, 1));
  const uint8x16_t second = vcombine_u8(vdup_laneq_u8(word, 2), vdup_laneq_u8(word, 3));
  const uint8x16_t sixteen = vdupq_n_u8(16);
  return {vorrq_u8(vandq_u8(packed, vdupq_n_u8(15)), vandq_u8(vtstq_u8(first, own_bit), sixteen)),
          vorrq_u8(vshrq_n_u8(packed, 4), vandq_u8(vtstq_u8(second, own_bit), sixteen))};
}

}  // namespace
}  // namespace moe::cpu

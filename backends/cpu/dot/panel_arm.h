// What the panels of the three ARM instruction sets share: 8 rows a panel, two registers of four. See dot/a8.inl.
//
// All three multiply signed by signed bytes. So a format's offset is subtracted from the bytes while they are unpacked, once a
// panel instead of once a product.
#pragma once

#include "backends/cpu/vec/neon.h"

namespace moe::cpu {
namespace {

constexpr int kPanelRows = 8;
constexpr int kPanelVecs = 16;

// Bytes that are stored as int8, less kOffset.
template <int kOffset>
struct LessOffset {
  U8x16 bytes;
};
template <int kOffset>
inline LessOffset<kOffset> load_bytes(const uint8_t* p, LessOffset<kOffset>) {
  return {load_bytes(p, U8x16{})};
}
template <int kOffset>
inline void store_bytes(uint8_t* p, LessOffset<kOffset> a) {
  vst1q_u8(p, kOffset == 0 ? a.bytes.v : vsubq_u8(a.bytes.v, vdupq_n_u8(kOffset)));
}
template <int kOffset>
inline LessOffset<kOffset> bits(LessOffset<kOffset> a, int shift, int width) {
  return {bits(a.bytes, shift, width)};
}
template <int kOffset>
inline LessOffset<kOffset> join(LessOffset<kOffset> low, LessOffset<kOffset> high, int shift) {
  return {join(low.bytes, high.bytes, shift)};
}
template <int kOffset>
inline LessOffset<kOffset> lookup(const int8_t* table, LessOffset<kOffset> index) {
  return {lookup(table, index.bytes)};
}
template <class Format>
using PanelBytes = LessOffset<Format::kOffset>;

// What is left for integer sums to subtract: formats of 8 pieces lie in the panel as they are fetched.
template <class Format>
constexpr int kPanelOffset = Format::kRaws == 8 ? Format::kOffset : 0;

constexpr bool kQuadWords = false;
constexpr bool kSpreadReads = false;

struct I32 {
  int32x4_t low, high;
};
inline F32 to_f32(I32 a) { return {vcvtq_f32_s32(a.low), vcvtq_f32_s32(a.high)}; }
inline I32 load_words(const uint16_t* p) {
  const uint16x8_t words = vld1q_u16(p);
  return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words))), vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(words)))};
}
inline I32 load_dwords(const uint32_t* p) {
  return {vreinterpretq_s32_u32(vld1q_u32(p)), vreinterpretq_s32_u32(vld1q_u32(p + 4))};
}
inline int32x4_t field(int32x4_t a, int shift, int width) {
  return vreinterpretq_s32_u32((vreinterpretq_u32_s32(a) >> shift) & vdupq_n_u32((1u << width) - 1));
}
inline I32 field(I32 a, int shift, int width) { return {field(a.low, shift, width), field(a.high, shift, width)}; }
inline I32 join(I32 low, I32 high, int shift) { return {low.low | high.low << shift, low.high | high.high << shift}; }
inline float32x4_t half_of(int32x4_t a, int k) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(vreinterpretq_u32_s32(a) >> (16 * k))));
}
inline F32 half_of(I32 a, int k) { return {half_of(a.low, k), half_of(a.high, k)}; }
inline I32 signed_byte(I32 a, int k) { return {(a.low << (24 - 8 * k)) >> 24, (a.high << (24 - 8 * k)) >> 24}; }

// 4 rows of 4 dwords → 4 registers of 4 rows
inline void transpose_dwords(uint32x4_t r0, uint32x4_t r1, uint32x4_t r2, uint32x4_t r3, uint32x4_t* out) {
  const uint32x4_t a = vzip1q_u32(r0, r2), b = vzip1q_u32(r1, r3), c = vzip2q_u32(r0, r2), d = vzip2q_u32(r1, r3);
  out[0] = vzip1q_u32(a, b);
  out[1] = vzip2q_u32(a, b);
  out[2] = vzip1q_u32(c, d);
  out[3] = vzip2q_u32(c, d);
}

// 8 rows of 4 dwords → 4 registers of 8 rows
inline void interleave_headers(const uint8_t* const* rows, I32* out) {
  uint32x4_t row[8], low[4], high[4];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) row[r] = vreinterpretq_u32_u8(vld1q_u8(rows[r]));
  transpose_dwords(row[0], row[1], row[2], row[3], low);
  transpose_dwords(row[4], row[5], row[6], row[7], high);
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) out[k] = {vreinterpretq_s32_u32(low[k]), vreinterpretq_s32_u32(high[k])};
}

// The sum of the activations that dwords kFirst .. kFirst + kCount of a group cover.
template <int kFirst, int kCount>
inline int32_t sum_of(const BlockA8& x) {
  return kCount == 8 ? x.sum : x.half[kFirst / 4];
}

// What the integer sums of a token begin with, in every lane.
template <class Format, int kFirst, int kCount>
inline int32x4_t start_of(const BlockA8& x) {
  if constexpr (kPanelOffset<Format> == 0) return vdupq_n_s32(0);
  return vdupq_n_s32(-kPanelOffset<Format> * sum_of<kFirst, kCount>(x));
}

// One number for all lanes, which FMLA takes by element.
struct ScalarF32 {
  float32x2_t v;
};
inline F32 fma(ScalarF32 a, F32 b, F32 c) {
  return {vfmaq_lane_f32(c.low, b.low, a.v, 0), vfmaq_lane_f32(c.high, b.high, a.v, 0)};
}

template <int kFirst, int kCount>
inline ScalarF32 activation_sum(const BlockA8& x) {
  const int32x2_t sum = vset_lane_s32(sum_of<kFirst, kCount>(x), vdup_n_s32(0), 0);
  return {vcvt_f32_s32(sum)};
}

}  // namespace
}  // namespace moe::cpu

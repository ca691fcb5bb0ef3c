// What the panels of the three ARM instruction sets share: 8 rows a panel, two registers of four. See dot/a8.inl.
//
// All three multiply signed by signed bytes, so weights go in as they lie in the panel (none but int8 ones exceeds 63). The
// offset of a format times the sum of the activations is what the integer sums start from.
#pragma once

#include "backends/cpu/vec/neon.h"

namespace moe::cpu {
namespace {

constexpr int kPanelRows = 8;
constexpr int kPanelVecs = 16;
constexpr int kRowTokens = 0;
using PanelBytes = U8x16;

struct I32 {
  int32x4_t low, high;
};
inline F32 to_f32(I32 a) { return {vcvtq_f32_s32(a.low), vcvtq_f32_s32(a.high)}; }
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

// 4 rows of 4 dwords → 4 registers of 4 rows, each 32 bytes after the one before.
inline void transpose_dwords(uint8x16_t r0, uint8x16_t r1, uint8x16_t r2, uint8x16_t r3, uint8_t* out) {
  const uint32x4_t a = vzip1q_u32(vreinterpretq_u32_u8(r0), vreinterpretq_u32_u8(r2));
  const uint32x4_t b = vzip1q_u32(vreinterpretq_u32_u8(r1), vreinterpretq_u32_u8(r3));
  const uint32x4_t c = vzip2q_u32(vreinterpretq_u32_u8(r0), vreinterpretq_u32_u8(r2));
  const uint32x4_t d = vzip2q_u32(vreinterpretq_u32_u8(r1), vreinterpretq_u32_u8(r3));
  vst1q_u8(out, vreinterpretq_u8_u32(vzip1q_u32(a, b)));
  vst1q_u8(out + 32, vreinterpretq_u8_u32(vzip2q_u32(a, b)));
  vst1q_u8(out + 64, vreinterpretq_u8_u32(vzip1q_u32(c, d)));
  vst1q_u8(out + 96, vreinterpretq_u8_u32(vzip2q_u32(c, d)));
}

// 8 rows of 4 dwords → 4 registers of 8 rows
inline void interleave_headers(const uint8_t* const* rows, I32* out) {
  alignas(16) uint32_t words[4][8];
  auto* bytes = reinterpret_cast<uint8_t*>(words);
  for (int r = 0; r < 8; r += 4)
    transpose_dwords(vld1q_u8(rows[r]), vld1q_u8(rows[r + 1]), vld1q_u8(rows[r + 2]), vld1q_u8(rows[r + 3]), bytes + 4 * r);
  for (int k = 0; k < 4; ++k) out[k] = load_dwords(words[k]);
}

// 8 rows of 8 dwords → 8 times 8 rows
inline void interleave_rows(const Bytes32* rows, void* out) {
  auto* bytes = static_cast<uint8_t*>(out);
  for (int r = 0; r < 8; r += 4) {
    transpose_dwords(rows[r].low, rows[r + 1].low, rows[r + 2].low, rows[r + 3].low, bytes + 4 * r);
    transpose_dwords(rows[r].high, rows[r + 1].high, rows[r + 2].high, rows[r + 3].high, bytes + 4 * r + 128);
  }
}

// The sum of the activations that dwords kFirst .. kFirst + kCount of a group cover, in every lane.
template <int kFirst, int kCount>
inline int32x4_t splat_sum(const BlockA8& x) {
  return vld1q_dup_s32(kCount == 8 ? &x.sum : &x.half[kFirst / 4]);
}

template <class Format, int kFirst, int kCount>
inline int32x4_t start_of(const BlockA8& x) {
  if constexpr (Format::kOffset == 0) return vdupq_n_s32(0);
  return vmulq_n_s32(splat_sum<kFirst, kCount>(x), -Format::kOffset);
}

template <int kFirst, int kCount>
inline F32 activation_sum(const BlockA8& x) {
  const float32x4_t sum = vcvtq_f32_s32(splat_sum<kFirst, kCount>(x));
  return {sum, sum};
}

}  // namespace
}  // namespace moe::cpu

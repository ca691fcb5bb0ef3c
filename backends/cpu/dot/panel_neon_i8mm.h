// Integer dot products with SMMLA (ARMv8.6 I8MM): two rows times two tokens, eight products each. See dot/a8.inl.
//
// A panel is interleaved by eight bytes here. Two tokens meet it as they lie; one token alone is multiplied by SDOT, each half
// of a row's eight bytes in its own lane.
//
//   half a group    [ row 0: 0..7 | row 1: 0..7 ]  [ row 0: 8..15 | row 1: 8..15 ]  [ row 2: 0..7 | row 3: 0..7 ]  ... 8 such
//   SMMLA           [ row 0 | row 1 ] · [ token 0 | token 1 ]  →  [ r0·t0 | r0·t1 | r1·t0 | r1·t1 ]
//
// Sums of a chunk stay in that order, the scales of rows are brought into it (4 ZIPs a group, whatever the number of tokens,
// instead of 2 UZPs for each). Of a pair of tokens, register t holds rows 0 .. 3 of both, t + 1 rows 4 .. 7.
#pragma once

#include "backends/cpu/dot/panel_arm.h"

#define MOE_TILE

namespace moe::cpu {
namespace {

constexpr int kTilePanels = 1;
constexpr int kTileTokens = 6;

inline uint8x16_t low_halves(uint8x16_t a, uint8x16_t b) {
  return vreinterpretq_u8_u64(vzip1q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}
inline uint8x16_t high_halves(uint8x16_t a, uint8x16_t b) {
  return vreinterpretq_u8_u64(vzip2q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}

// 8 rows of 4 qwords → 2 times 4 pairs of rows
__attribute__((always_inline)) inline void interleave_rows(const Bytes32* rows, void* out) {
  auto* bytes = static_cast<uint8_t*>(out);
  for (int r = 0; r < 8; r += 2) {
    vst1q_u8(bytes + 16 * r, low_halves(rows[r].low, rows[r + 1].low));
    vst1q_u8(bytes + 16 * r + 16, high_halves(rows[r].low, rows[r + 1].low));
    vst1q_u8(bytes + 16 * r + 128, low_halves(rows[r].high, rows[r + 1].high));
    vst1q_u8(bytes + 16 * r + 144, high_halves(rows[r].high, rows[r + 1].high));
  }
}

// Qword j % 2 of rows 2k and 2k + 1 in the half of a group that begins at panel
inline int8x16_t row_pair(const uint8_t* panel, int k, int j) { return vreinterpretq_s8_u8(vld1q_u8(panel + 32 * k + 16 * j)); }

template <class Format, int kFirst, int kCount>
inline I32 dot_one_token(const uint8_t* panel, const BlockA8& x) {
  int32x4_t rows[4] = {};
#pragma GCC unroll 2
  for (int i = kFirst; i < kFirst + kCount; i += 4) {
    const int64x2_t xs = vreinterpretq_s64_s8(vld1q_s8(x.q + 4 * i));
    const int8x16_t even = vreinterpretq_s8_s64(vdupq_laneq_s64(xs, 0)), odd = vreinterpretq_s8_s64(vdupq_laneq_s64(xs, 1));
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      rows[k] = vdotq_s32(rows[k], row_pair(panel + 32 * i, k, 0), even);
      rows[k] = vdotq_s32(rows[k], row_pair(panel + 32 * i, k, 1), odd);
    }
  }
  const I32 sums = {vpaddq_s32(rows[0], rows[1]), vpaddq_s32(rows[2], rows[3])};
  if constexpr (kPanelOffset<Format> == 0) return sums;
  const int32x4_t start = start_of<Format, kFirst, kCount>(x);
  return {vaddq_s32(sums.low, start), vaddq_s32(sums.high, start)};
}

// Tokens in pairs; kTokens is even.
template <class Format, int kFirst, int kCount, int kTokens>
inline void dot_token_pairs(const uint8_t* panel, const BlockA8* const* x, I32* out) {
  constexpr int kPairs = kTokens / 2;
  int32x4_t sums[4][kPairs];  // (pairs of rows, pairs of tokens)
#pragma GCC unroll 4
  for (int p = 0; p < kPairs; ++p) {
    const int32x4_t start =
        vzip1q_s32(start_of<Format, kFirst, kCount>(*x[2 * p]), start_of<Format, kFirst, kCount>(*x[2 * p + 1]));
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) sums[k][p] = start;
  }
#pragma GCC unroll 2
  for (int i = kFirst; i < kFirst + kCount; i += 4) {
    int8x16_t even[kPairs], odd[kPairs];  // qwords of a pair of tokens
#pragma GCC unroll 4
    for (int p = 0; p < kPairs; ++p) {
      const uint8x16_t first = vld1q_u8(reinterpret_cast<const uint8_t*>(x[2 * p]->q) + 4 * i);
      const uint8x16_t second = vld1q_u8(reinterpret_cast<const uint8_t*>(x[2 * p + 1]->q) + 4 * i);
      even[p] = vreinterpretq_s8_u8(low_halves(first, second));
      odd[p] = vreinterpretq_s8_u8(high_halves(first, second));
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const int8x16_t w0 = row_pair(panel + 32 * i, k, 0), w1 = row_pair(panel + 32 * i, k, 1);
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p) sums[k][p] = vmmlaq_s32(sums[k][p], w0, even[p]);
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p) sums[k][p] = vmmlaq_s32(sums[k][p], w1, odd[p]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kPairs; ++p) {
    out[2 * p] = {sums[0][p], sums[1][p]};
    out[2 * p + 1] = {sums[2][p], sums[3][p]};
  }
}

template <class Format, int kFirst, int kCount, int kPanels, int kTokens>
inline void dot_dwords(const uint8_t* const* panels, const BlockA8* const* x, I32* out) {
  static_assert(kPanels == 1);
  const uint8_t* panel = panels[0];
  if constexpr (kTokens == 1) {
    out[0] = dot_one_token<Format, kFirst, kCount>(panel, *x[0]);
  } else {
    dot_token_pairs<Format, kFirst, kCount, kTokens>(panel, x, out);
  }
}

inline F32 twice_each(float32x4_t a) { return {vzip1q_f32(a, a), vzip2q_f32(a, a)}; }

// See tile_rows.inl for what these give; with one token a register holds rows of it here as well.
template <int kTokens>
inline F32 tile_scale(const float* scales, int t) {
  if constexpr (kTokens == 1) return load(scales);
  return twice_each(vld1q_f32(scales + t % 2 * 4));
}

template <int kFirst, int kCount, int kTokens>
inline auto tile_sum(const BlockA8* const* x, int t) {
  if constexpr (kTokens == 1) {
    return activation_sum<kFirst, kCount>(*x[t]);
  } else {
    const int32x2_t first = vdup_n_s32(sum_of<kFirst, kCount>(*x[t / 2 * 2]));
    const int32x2_t pair = vset_lane_s32(sum_of<kFirst, kCount>(*x[t / 2 * 2 + 1]), first, 1);
    const float32x2_t sums = vcvt_f32_s32(pair);
    const float32x4_t both = vcombine_f32(sums, sums);
    return F32{both, both};
  }
}

// Always inlined: the tile of a function that is called lies in memory.
template <int kPanels, int kTokens>
__attribute__((always_inline)) inline F32 tile_rows(const F32* tile, int t, int) {
  static_assert(kPanels == 1);
  if constexpr (kTokens == 1) return tile[t];
  const float32x4_t r01 = tile[t / 2 * 2].low, r23 = tile[t / 2 * 2].high;
  const float32x4_t r45 = tile[t / 2 * 2 + 1].low, r67 = tile[t / 2 * 2 + 1].high;
  if (t % 2 == 0) return {vuzp1q_f32(r01, r23), vuzp1q_f32(r45, r67)};
  return {vuzp2q_f32(r01, r23), vuzp2q_f32(r45, r67)};
}

}  // namespace
}  // namespace moe::cpu

// Integer dot products with SMMLA (ARMv8.6 I8MM): two rows times two tokens, eight products each. See dot/a8.inl.
//
// A panel is interleaved by eight bytes here. Two tokens meet it as they lie; one token alone is multiplied by SDOT, each half
// of a row's eight bytes in its own lane.
//
//   panel qword j   [ row 0: 8 bytes | row 1: 8 bytes ]  [ row 2 | row 3 ]  [ row 4 | row 5 ]  [ row 6 | row 7 ]
//   SMMLA           [ row 0 | row 1 ] · [ token 0 | token 1 ]  →  [ r0·t0 | r0·t1 | r1·t0 | r1·t1 ]
#pragma once

#include "backends/cpu/dot/panel_arm.h"

namespace moe::cpu {
namespace {

constexpr int kTilePanels = 1;
constexpr int kTileTokens = 4;

inline uint8x16_t low_halves(uint8x16_t a, uint8x16_t b) {
  return vreinterpretq_u8_u64(vzip1q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}
inline uint8x16_t high_halves(uint8x16_t a, uint8x16_t b) {
  return vreinterpretq_u8_u64(vzip2q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}

// 8 rows of 4 qwords → 4 times 8 rows. For bytes only: scales, which are floats, take the overload that goes by dwords.
inline void interleave_rows(const Bytes32* rows, uint8_t* out) {
  for (int r = 0; r < 8; r += 2) {
    vst1q_u8(out + 8 * r, low_halves(rows[r].low, rows[r + 1].low));
    vst1q_u8(out + 8 * r + 64, high_halves(rows[r].low, rows[r + 1].low));
    vst1q_u8(out + 8 * r + 128, low_halves(rows[r].high, rows[r + 1].high));
    vst1q_u8(out + 8 * r + 192, high_halves(rows[r].high, rows[r + 1].high));
  }
}

// Rows 2k and 2k + 1 of qword j
inline int8x16_t row_pair(const uint8_t* panel, int j, int k) { return vreinterpretq_s8_u8(vld1q_u8(panel + 64 * j + 16 * k)); }

struct RowPairs {
  int32x4_t rows[4];
};

template <class Format, int kFirst, int kCount>
inline I32 dot_one_token(const uint8_t* panel, const BlockA8& x) {
  RowPairs dots{};
#pragma GCC unroll 4
  for (int j = kFirst / 2; j < (kFirst + kCount) / 2; ++j) {
    const int8x16_t xs = vreinterpretq_s8_s64(vdupq_lane_s64(vreinterpret_s64_s8(vld1_s8(x.q + 8 * j)), 0));
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) dots.rows[k] = vdotq_s32(dots.rows[k], row_pair(panel, j, k), xs);
  }
  const I32 sums = {vpaddq_s32(dots.rows[0], dots.rows[1]), vpaddq_s32(dots.rows[2], dots.rows[3])};
  if constexpr (Format::kOffset == 0) return sums;
  const int32x4_t offset = start_of<Format, kFirst, kCount>(x);
  return {vaddq_s32(sums.low, offset), vaddq_s32(sums.high, offset)};
}

// Tokens in pairs; kTokens is even.
template <class Format, int kFirst, int kCount, int kTokens>
inline void dot_token_pairs(const uint8_t* panel, const BlockA8* const* x, I32* out) {
  constexpr int kPairs = kTokens / 2;
  RowPairs dots[kPairs];
#pragma GCC unroll 4
  for (int p = 0; p < kPairs; ++p) {
    const int32x4_t start =
        vzip1q_s32(start_of<Format, kFirst, kCount>(*x[2 * p]), start_of<Format, kFirst, kCount>(*x[2 * p + 1]));
    dots[p] = {{start, start, start, start}};
  }
#pragma GCC unroll 2
  for (int j = kFirst / 2; j < (kFirst + kCount) / 2; j += 2) {
    int8x16_t even[kPairs], odd[kPairs];  // qwords j and j + 1 of a pair of tokens
#pragma GCC unroll 4
    for (int p = 0; p < kPairs; ++p) {
      const auto* q0 = reinterpret_cast<const uint8_t*>(x[2 * p]->q);
      const auto* q1 = reinterpret_cast<const uint8_t*>(x[2 * p + 1]->q);
      even[p] = vreinterpretq_s8_u8(low_halves(vld1q_u8(q0 + 8 * j), vld1q_u8(q1 + 8 * j)));
      odd[p] = vreinterpretq_s8_u8(high_halves(vld1q_u8(q0 + 8 * j), vld1q_u8(q1 + 8 * j)));
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p) {
        dots[p].rows[k] = vmmlaq_s32(dots[p].rows[k], row_pair(panel, j, k), even[p]);
        dots[p].rows[k] = vmmlaq_s32(dots[p].rows[k], row_pair(panel, j + 1, k), odd[p]);
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kPairs; ++p) {
    const int32x4_t* rows = dots[p].rows;
    out[2 * p] = {vuzp1q_s32(rows[0], rows[1]), vuzp1q_s32(rows[2], rows[3])};
    out[2 * p + 1] = {vuzp2q_s32(rows[0], rows[1]), vuzp2q_s32(rows[2], rows[3])};
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

}  // namespace
}  // namespace moe::cpu

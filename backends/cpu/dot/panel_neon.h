// Integer dot products with ARMv8.0's SMULL and SMLAL: eight products of bytes, added in int16. See dot/a8.inl.
//
// As many products are added in int16 as fit, n · 127 · kMax ≤ 32767: all of a group where bytes need 6 bits or fewer, two
// where they are int8 (2 · 127 · 128 = 32512). SADALP then adds neighbours into int32.
//
//   panel dword i   [ row 0: b b b b | row 1: b b b b | row 2 | row 3 ]   times   [ x x x x | x x x x ]
//   int16 sums      lower half: rows 0 and 1, four lanes each; upper half: rows 2 and 3
#pragma once

#include "backends/cpu/dot/panel_arm.h"

namespace moe::cpu {
namespace {

constexpr int kTilePanels = 1;
constexpr int kTileTokens = 2;

// Eight rows, two lanes each, as sums of every other product.
struct RowPairs {
  int32x4_t rows[4];
};
inline I32 add_lanes(const RowPairs& a) { return {vpaddq_s32(a.rows[0], a.rows[1]), vpaddq_s32(a.rows[2], a.rows[3])}; }

template <class Format, int kFirst, int kCount, int kPanels, int kTokens>
inline void dot_dwords(const uint8_t* const* panels, const BlockA8* const* x, I32* out) {
  static_assert(kPanels == 1);
  const uint8_t* panel = panels[0];
  constexpr int kFit = 32767 / (127 * Format::kMax);
  constexpr int kStep = kFit < kCount ? 2 : kCount;
  static_assert(kFit >= kStep);
  RowPairs dots[kTokens];
  for (int t = 0; t < kTokens; ++t) dots[t] = RowPairs{};
#pragma GCC unroll 8
  for (int run = kFirst; run < kFirst + kCount; run += kStep) {
    int16x8_t products[kTokens][4];
#pragma GCC unroll 8
    for (int i = run; i < run + kStep; ++i) {
      const int8x16_t w0 = vreinterpretq_s8_u8(vld1q_u8(panel + 32 * i));
      const int8x16_t w1 = vreinterpretq_s8_u8(vld1q_u8(panel + 32 * i + 16));
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        int32_t dword;
        std::memcpy(&dword, x[t]->q + 4 * i, 4);
        const int8x16_t xs = vreinterpretq_s8_s32(vdupq_n_s32(dword));
        int16x8_t* p = products[t];
        p[0] = i == run ? vmull_s8(vget_low_s8(w0), vget_low_s8(xs)) : vmlal_s8(p[0], vget_low_s8(w0), vget_low_s8(xs));
        p[1] = i == run ? vmull_high_s8(w0, xs) : vmlal_high_s8(p[1], w0, xs);
        p[2] = i == run ? vmull_s8(vget_low_s8(w1), vget_low_s8(xs)) : vmlal_s8(p[2], vget_low_s8(w1), vget_low_s8(xs));
        p[3] = i == run ? vmull_high_s8(w1, xs) : vmlal_high_s8(p[3], w1, xs);
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) dots[t].rows[k] = vpadalq_s16(dots[t].rows[k], products[t][k]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    out[t] = add_lanes(dots[t]);
    if constexpr (Format::kOffset != 0) {
      const int32x4_t offset = start_of<Format, kFirst, kCount>(*x[t]);
      out[t] = {vaddq_s32(out[t].low, offset), vaddq_s32(out[t].high, offset)};
    }
  }
}

}  // namespace
}  // namespace moe::cpu

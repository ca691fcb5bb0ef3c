// Integer dot products with SDOT (ARMv8.2 DotProd): each dword lane adds four products of bytes. See dot/a8.inl.
//
//   panel dword i   [ row 0: b b b b | row 1: b b b b | row 2 | row 3 ]   times dword i of the activations, named by its lane
#pragma once

#include "backends/cpu/dot/panel_arm.h"

namespace moe::cpu {
namespace {

constexpr int kTilePanels = 1;
constexpr int kTileTokens = 4;

// sums += 8 rows · one dword of each token, the one in lane kLane of x
template <int kLane, int kTokens>
inline void add_dword(const uint8_t* panel, const int8x16_t* x, I32* sums) {
  const int8x16_t low = vreinterpretq_s8_u8(vld1q_u8(panel));
  const int8x16_t high = vreinterpretq_s8_u8(vld1q_u8(panel + 16));
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    sums[t].low = vdotq_laneq_s32(sums[t].low, low, x[t], kLane);
    sums[t].high = vdotq_laneq_s32(sums[t].high, high, x[t], kLane);
  }
}

template <class Format, int kFirst, int kCount, int kPanels, int kTokens>
inline void dot_dwords(const uint8_t* const* panels, const BlockA8* const* x, I32* out) {
  static_assert(kPanels == 1);
  const uint8_t* panel = panels[0];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    const int32x4_t start = start_of<Format, kFirst, kCount>(*x[t]);
    out[t] = {start, start};
  }
#pragma GCC unroll 2
  for (int i = kFirst; i < kFirst + kCount; i += 4) {
    int8x16_t xs[kTokens];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) xs[t] = vld1q_s8(x[t]->q + 4 * i);
    add_dword<0, kTokens>(panel + 32 * i, xs, out);
    add_dword<1, kTokens>(panel + 32 * i + 32, xs, out);
    add_dword<2, kTokens>(panel + 32 * i + 64, xs, out);
    add_dword<3, kTokens>(panel + 32 * i + 96, xs, out);
  }
}

}  // namespace
}  // namespace moe::cpu

// Integer dot products with SDOT (ARMv8.2 DotProd): each dword lane adds four products of bytes. See dot/a8.inl.
//
//   panel dword i   [ row 0: b b b b | row 1: b b b b | row 2 | row 3 ]   times dword i of the activations, named by its lane
#pragma once

#include "backends/cpu/dot/panel_arm.h"

namespace moe::cpu {
namespace {

constexpr int kTileTokens = 4;

// sum += four rows · dwords 0..3 of x
inline I32 add_four_dwords(I32 sum, const uint8_t* panel, int8x16_t x) {
  const auto* w = reinterpret_cast<const int8_t*>(panel);
  sum.low = vdotq_laneq_s32(sum.low, vld1q_s8(w), x, 0);
  sum.high = vdotq_laneq_s32(sum.high, vld1q_s8(w + 16), x, 0);
  sum.low = vdotq_laneq_s32(sum.low, vld1q_s8(w + 32), x, 1);
  sum.high = vdotq_laneq_s32(sum.high, vld1q_s8(w + 48), x, 1);
  sum.low = vdotq_laneq_s32(sum.low, vld1q_s8(w + 64), x, 2);
  sum.high = vdotq_laneq_s32(sum.high, vld1q_s8(w + 80), x, 2);
  sum.low = vdotq_laneq_s32(sum.low, vld1q_s8(w + 96), x, 3);
  sum.high = vdotq_laneq_s32(sum.high, vld1q_s8(w + 112), x, 3);
  return sum;
}

template <class Format, int kFirst, int kCount, int kTokens>
inline void dot_dwords(const uint8_t* panel, const BlockA8* const* x, I32* out) {
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    const int32x4_t start = start_of<Format, kFirst, kCount>(*x[t]);
    out[t] = {start, start};
  }
#pragma GCC unroll 2
  for (int i = kFirst; i < kFirst + kCount; i += 4) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) out[t] = add_four_dwords(out[t], panel + 32 * i, vld1q_s8(x[t]->q + 4 * i));
  }
}

}  // namespace
}  // namespace moe::cpu

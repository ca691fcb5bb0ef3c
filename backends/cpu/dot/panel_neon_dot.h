// Integer dot products with SDOT (ARMv8.2 DotProd): each dword lane adds four products of bytes. See dot/a8.inl.
//
//   panel dword i   [ row 0: b b b b | row 1: b b b b | row 2 | row 3 ]   times dword i of the activations, named by its lane
#pragma once

#include "backends/cpu/dot/panel_arm.h"

#define MOE_TILE

namespace moe::cpu {
namespace {

constexpr int kTilePanels = 1;
constexpr int kTileTokens = 6;

// 4 rows of 4 dwords → 4 times 4 rows, each 32 bytes after the one before.
inline void interleave_four(uint8x16_t r0, uint8x16_t r1, uint8x16_t r2, uint8x16_t r3, uint8_t* out) {
  uint32x4_t rows[4];
  transpose_dwords(vreinterpretq_u32_u8(r0), vreinterpretq_u32_u8(r1), vreinterpretq_u32_u8(r2), vreinterpretq_u32_u8(r3),
                   rows);
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) vst1q_u8(out + 32 * k, vreinterpretq_u8_u32(rows[k]));
}

// 8 rows of 8 dwords → 8 times 8 rows
__attribute__((always_inline)) inline void interleave_rows(const Bytes32* rows, void* out) {
  auto* bytes = static_cast<uint8_t*>(out);
  for (int r = 0; r < 8; r += 4) {
    interleave_four(rows[r].low, rows[r + 1].low, rows[r + 2].low, rows[r + 3].low, bytes + 4 * r);
    interleave_four(rows[r].high, rows[r + 1].high, rows[r + 2].high, rows[r + 3].high, bytes + 4 * r + 128);
  }
}

// low, high += rows 0 .. 3 and 4 .. 7 · one dword of each token, the one in lane kLane of x
template <int kLane, int kTokens>
inline void add_dword(const uint8_t* panel, const int8x16_t* x, int32x4_t* low, int32x4_t* high) {
  const int8x16_t w0 = vreinterpretq_s8_u8(vld1q_u8(panel)), w1 = vreinterpretq_s8_u8(vld1q_u8(panel + 16));
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    low[t] = vdotq_laneq_s32(low[t], w0, x[t], kLane);
    high[t] = vdotq_laneq_s32(high[t], w1, x[t], kLane);
  }
}

template <class Format, int kFirst, int kCount, int kPanels, int kTokens>
inline void dot_dwords(const uint8_t* const* panels, const BlockA8* const* x, I32* out) {
  static_assert(kPanels == 1);
  const uint8_t* panel = panels[0];
  int32x4_t low[kTokens], high[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) low[t] = high[t] = start_of<Format, kFirst, kCount>(*x[t]);
#pragma GCC unroll 2
  for (int i = kFirst; i < kFirst + kCount; i += 4) {
    int8x16_t xs[kTokens];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) xs[t] = vld1q_s8(x[t]->q + 4 * i);
    add_dword<0, kTokens>(panel + 32 * i, xs, low, high);
    add_dword<1, kTokens>(panel + 32 * i + 32, xs, low, high);
    add_dword<2, kTokens>(panel + 32 * i + 64, xs, low, high);
    add_dword<3, kTokens>(panel + 32 * i + 96, xs, low, high);
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) out[t] = {low[t], high[t]};
}

}  // namespace
}  // namespace moe::cpu

// Integer dot products with ARMv8.0's SMULL and SMLAL: eight products of bytes, added in int16. See dot/a8.inl.
//
// No instruction here takes four bytes of a lane to one sum, so lanes are not rows inside a group: a panel keeps 16 bytes of
// a row together, which meet 16 activations as they lie in memory, and neighbours are added until a row's sum is left. Lanes
// of rows (as dotprod has them) would take a broadcast for every dword and no fewer multiplications: 74 instructions for 256
// products of q8_0 instead of 60.
//
//   panel, one group of 32:   [ row 0: 0..15 | row 1: 0..15 | ... | row 7: 0..15 | row 0: 16..31 | row 1: 16..31 | ... ]
//
// As many products are added in int16 as fit, n · 127 · kMax ≤ 32767: all of a group where bytes need 6 bits or fewer, two
// where they are int8 (2 · 127 · 128 = 32512). SADDLP and SADALP then add neighbours into int32.
#pragma once

#include "backends/cpu/dot/panel_arm.h"

#define MOE_TILE MOE_INLINE  // GCC 12 calls some tiles and then their accumulators lie in memory: 245 → 290 instructions

namespace moe::cpu {
namespace {

constexpr int kTilePanels = 1;
constexpr int kTileTokens = 4;
constexpr int kRowTokens = 0;

// 8 rows of 2 times 16 bytes → 2 times 8 rows
__attribute__((always_inline)) inline void interleave_rows(const Bytes32* rows, void* out) {
  auto* bytes = static_cast<uint8_t*>(out);
  for (int r = 0; r < 8; ++r) {
    vst1q_u8(bytes + 16 * r, rows[r].low);
    vst1q_u8(bytes + 16 * r + 128, rows[r].high);
  }
}

// One row, 16 bytes at panel and, if kPieces is 2, at panel + 128: four sums that together are its dot product.
template <class Format, int kPieces>
inline int32x4_t dot_row(const uint8_t* panel, const int8_t* x) {
  constexpr bool kFits = 2 * kPieces * 127 * Format::kMax <= 32767;
  static_assert(2 * 127 * Format::kMax <= 32767);
  const int8x16_t w = vreinterpretq_s8_u8(vld1q_u8(panel)), xs = vld1q_s8(x);
  int16x8_t products = vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(xs)), w, xs);
  if constexpr (kPieces == 1) return vpaddlq_s16(products);
  const int8x16_t w2 = vreinterpretq_s8_u8(vld1q_u8(panel + 128)), xs2 = vld1q_s8(x + 16);
  if constexpr (kFits) {
    products = vmlal_s8(products, vget_low_s8(w2), vget_low_s8(xs2));
    return vpaddlq_s16(vmlal_high_s8(products, w2, xs2));
  }
  const int16x8_t products2 = vmlal_high_s8(vmull_s8(vget_low_s8(w2), vget_low_s8(xs2)), w2, xs2);
  return vpadalq_s16(vpaddlq_s16(products), products2);
}

// Four rows and kTokens tokens; a row's bytes are loaded for all tokens, and its sums leave registers as early as may be.
template <class Format, int kFirst, int kCount, int kTokens>
inline void dot_rows(const uint8_t* panel, const BlockA8* const* x, int32x4_t* out) {
  int32x4_t pairs[2][kTokens];
#pragma GCC unroll 2
  for (int k = 0; k < 2; ++k) {
    int32x4_t rows[2][kTokens];
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r) {
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        rows[r][t] = dot_row<Format, kCount / 4>(panel + 16 * (2 * k + r), x[t]->q + 4 * kFirst);
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) pairs[k][t] = vpaddq_s32(rows[0][t], rows[1][t]);
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) out[t] = vpaddq_s32(pairs[0][t], pairs[1][t]);
}

template <class Format, int kFirst, int kCount, int kPanels, int kTokens>
inline void dot_dwords(const uint8_t* const* panels, const BlockA8* const* x, I32* out) {
  static_assert(kPanels == 1);
  const uint8_t* panel = panels[0] + 32 * kFirst;
  int32x4_t low[kTokens], high[kTokens];
  dot_rows<Format, kFirst, kCount, kTokens>(panel, x, low);
  dot_rows<Format, kFirst, kCount, kTokens>(panel + 64, x, high);
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    out[t] = {low[t], high[t]};
    if constexpr (kPanelOffset<Format> != 0) {
      const int32x4_t start = start_of<Format, kFirst, kCount>(*x[t]);
      out[t] = {vaddq_s32(low[t], start), vaddq_s32(high[t], start)};
    }
  }
}

}  // namespace
}  // namespace moe::cpu

// One token with SDOT, for the instruction sets that have it: two rows, a 128-bit register each. See dot/a8_rows.inl. From two
// tokens on panels take fewer instructions, and with SMULL (panel_neon.h) they do for one.
#pragma once

#include "backends/cpu/dot/panel_arm.h"

namespace moe::cpu {
namespace {

constexpr int kRowLanes = 2;
constexpr int kRowTokens = 1;

// What dot_row counts too much for each unit of the sum of the activations.
template <class Format>
constexpr int kRowOffset = kPanelOffset<Format>;

// kPieces times 16 bytes of a row: four sums that together are their dot product.
template <int kPieces>
inline int32x4_t dot_row(const uint8_t* w, const int8_t* x) {
  const int32x4_t sums = vdotq_s32(vdupq_n_s32(0), vreinterpretq_s8_u8(vld1q_u8(w)), vld1q_s8(x));
  if constexpr (kPieces == 1) return sums;
  return vdotq_s32(sums, vreinterpretq_s8_u8(vld1q_u8(w + 16)), vld1q_s8(x + 16));
}

// In each register: the sum over it of v[0], of v[1], of v[2], of v[3].
inline int32x4_t add_across(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) {
  return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
}
inline I32 add_across(const I32* v) {
  return {add_across(v[0].low, v[1].low, v[2].low, v[3].low), add_across(v[0].high, v[1].high, v[2].high, v[3].high)};
}

// A 4x4 transpose of the dwords in each register.
inline void transpose_lanes(const int32_t* in, I32* out) {
  const auto row = [&](int i) { return vreinterpretq_u32_s32(vld1q_s32(in + 4 * i)); };
  uint32x4_t low[4], high[4];
  transpose_dwords(row(0), row(2), row(4), row(6), low);
  transpose_dwords(row(1), row(3), row(5), row(7), high);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) out[i] = {vreinterpretq_s32_u32(low[i]), vreinterpretq_s32_u32(high[i])};
}

inline void store(int32_t* p, I32 a) {
  vst1q_s32(p, a.low);
  vst1q_s32(p + 4, a.high);
}

template <int kFactor, int kFirst, int kCount>
inline I32 less_excess(I32 dot, const BlockA8& x) {
  const int32x4_t excess = vdupq_n_s32(kFactor * sum_of<kFirst, kCount>(x));
  return {vsubq_s32(dot.low, excess), vsubq_s32(dot.high, excess)};
}

}  // namespace
}  // namespace moe::cpu

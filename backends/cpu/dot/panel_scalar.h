// Integer dot products of the reference: a panel is one row, so interleaving it changes nothing. See dot/a8.inl.
#pragma once

#include "backends/cpu/vec/scalar.h"

#define MOE_TILE  // how a8_tile is declared: GCC chooses whether it is inlined

namespace moe::cpu {
namespace {

constexpr int kPanelRows = 1;
constexpr int kPanelVecs = 2;        // PanelBytes that hold 32 elements of every row
constexpr bool kQuadWords = false;   // has stage_quad_words, for the words of four rows at once
constexpr bool kSpreadReads = true;  // asks for weights ahead a few lines at a time, not a chunk
constexpr int kTilePanels = 1;
constexpr int kTileTokens = 4;
constexpr int kRowTokens = 0;
template <class Format>
using PanelBytes = U8x16;

struct I32 {
  int32_t v;
};
inline F32 to_f32(I32 a) { return {static_cast<float>(a.v)}; }

// Dwords of packed scales, a row each.
inline I32 load_dwords(const uint32_t* p) { return {static_cast<int32_t>(*p)}; }
inline I32 load_words(const uint16_t* p) { return {*p}; }
inline I32 field(I32 a, int shift, int width) {  // (a >> shift) & (2^width − 1)
  return {static_cast<int32_t>(static_cast<uint32_t>(a.v) >> shift & ((1u << width) - 1))};
}
inline I32 join(I32 low, I32 high, int shift) { return {low.v | high.v << shift}; }  // low | high << shift
inline F32 half_of(I32 a, int k) { return {f16_to_f32(static_cast<uint16_t>(static_cast<uint32_t>(a.v) >> 16 * k))}; }
inline I32 signed_byte(I32 a, int k) {  // byte k as an int8
  return {static_cast<int8_t>(static_cast<uint32_t>(a.v) >> 8 * k & 0xff)};
}

// (kPanelRows, 16 bytes) → four registers of dwords
inline void interleave_headers(const uint8_t* const* rows, I32* out) { std::memcpy(out, rows[0], 16); }

inline void interleave_rows(const Bytes32* rows, void* out) { store32(out, rows[0]); }

template <class Format, int kFirst, int kCount, int kPanels, int kTokens>
inline void dot_dwords(const uint8_t* const* panels, const BlockA8* const* x, I32* out) {
  static_assert(kPanels == 1);
  const uint8_t* panel = panels[0];
  for (int t = 0; t < kTokens; ++t) {
    int32_t total = 0;
    for (int i = 4 * kFirst; i < 4 * (kFirst + kCount); ++i) {
      const int w = Format::kSigned ? static_cast<int8_t>(panel[i]) : panel[i] - Format::kOffset;
      total += w * x[t]->q[i];
    }
    out[t].v = total;
  }
}

template <int kFirst, int kCount>
inline F32 activation_sum(const BlockA8& x) {
  return {static_cast<float>(kCount == 8 ? x.sum : x.half[kFirst / 4])};
}

}  // namespace
}  // namespace moe::cpu

// A quad of rows against up to kRowTokens tokens, the rows side by side in a register. See dot/a8_rows.inl.
#pragma once

#include "backends/cpu/dot/a8_rows.inl"

namespace moe::cpu {
namespace {

template <class F>
inline void dot_quad(const typename F::Block* const* rows, const RowActivations& x, int64_t chunk,
                     ReadAhead<kSpreadReads>& ahead, int32_t* dots) {
  constexpr int kPiece = 32 * kRowLanes;
  alignas(64) uint8_t w[kChunk * kRowLanes];
  alignas(64) uint8_t packed[kPacked<F> ? F::kRaws * kPiece : 64];
  uint8_t* raw = kPacked<F> ? packed : w;
  MOE_UNROLL for (int i = 0; i < F::kRaws; ++i) {
    Bytes32 piece[kRowLanes];
    ahead.ask<kPieceLines<F>>();
    for (int r = 0; r < kRowLanes; ++r) piece[r] = F::raw(rows[r], i, kChunk / F::kBlock);
    split_rows(piece, raw + i * kPiece);
  }
  if constexpr (kPacked<F>) F::template unpack<RowBytes<F>, kRowVecs>(raw, w);

  for (int t = 0; t < x.n_tokens; ++t) {
    const BlockA8* block = x.chunk(t, chunk);
    MOE_UNROLL for (int g = 0; g < kScalesOfChunk<F>; g += 4) {
      I32 sums[4];
      MOE_UNROLL for (int i = 0; i < 4; ++i) {
        const int at = (g + i) * F::kGroup;
        sums[i] = dot_lanes<F>(w + at * kRowLanes, block[at / 32].q + at % 32);
      }
      store(dots, add_across(sums));
      dots += 4 * kPanelRows;
    }
  }
}

}  // namespace
}  // namespace moe::cpu

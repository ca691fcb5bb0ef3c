// A quad of two rows against one token where a register has 16 bytes, those of one row. So nothing is laid side by side first:
// each row is multiplied where it lies, or where it is unpacked to. See dot/a8_rows.inl.
#pragma once

#include "backends/cpu/dot/a8_rows.inl"

namespace moe::cpu {
namespace {

static_assert(kRowTokens == 1);

// The bytes of a row's chunk, less their offset as those of a panel; at(g): of group g.
template <class F>
class RowChunk {
 public:
  using Block = typename F::Block;
  MOE_INLINE explicit RowChunk(const Block* block) : block_(block) {
    if constexpr (!kInPlace) open();
  }
  const uint8_t* at(int g) const {
    if constexpr (kInPlace) return reinterpret_cast<const uint8_t*>(block_[g].qs);
    return bytes_ + g * F::kGroup;
  }

 private:
  static constexpr bool kInPlace = !kPacked<F> && F::kSigned;  // q8_0

  MOE_INLINE void open() {
    if constexpr (!kPacked<F>) {
      MOE_UNROLL for (int i = 0; i < F::kRaws; ++i) store32(bytes_ + 32 * i, F::raw(block_, i, kChunk / F::kBlock));
    } else if constexpr (F::kBlock == kChunk) {
      F::template unpack<PanelBytes<F>, 2>(reinterpret_cast<const uint8_t*>(block_) + F::kBitsAt, bytes_);
    } else {
      F::template unpack<PanelBytes<F>, 2, sizeof(Block) - 16>(block_->qs, bytes_);
    }
  }

  const Block* block_;
  alignas(64) uint8_t bytes_[kInPlace ? 1 : kChunk];
};

template <class F>
inline void dot_quad(const typename F::Block* const* rows, const RowActivations& x, int64_t chunk, ReadAhead<kSpreadReads>&,
                     int32_t* dots) {
  const BlockA8* block = x.chunk(0, chunk);
  const RowChunk<F> first(rows[0]), second(rows[1]);
  MOE_UNROLL for (int g = 0; g < kScalesOfChunk<F>; g += 4) {
    I32 sums[4];
    MOE_UNROLL for (int i = 0; i < 4; ++i) {
      const int8_t* q = block[(g + i) * F::kGroup / 32].q + (g + i) * F::kGroup % 32;
      sums[i] = {dot_row<F::kGroup / 16>(first.at(g + i), q), dot_row<F::kGroup / 16>(second.at(g + i), q)};
    }
    store(dots, add_across(sums));
    dots += 4 * kPanelRows;
  }
}

}  // namespace
}  // namespace moe::cpu

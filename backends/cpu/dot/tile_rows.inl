// A tile's registers when each holds rows of one token: everywhere but in panel_neon_i8mm.h. See dot/a8.inl.
#pragma once

namespace moe::cpu {
namespace {

// Scales or biases of one group as they meet token t of the tile. scales: (rows)
template <int kTokens>
__attribute__((always_inline)) inline F32 tile_scale(const float* scales, int) {
  return load(scales);
}

// The sum of the activations of token t that dwords kFirst .. kFirst + kCount cover.
template <int kFirst, int kCount, int kTokens>
__attribute__((always_inline)) inline auto tile_sum(const BlockA8* const* x, int t) {
  return activation_sum<kFirst, kCount>(*x[t]);
}

// The rows of panel p and token t. tile: (kTokens, kPanels)
template <int kPanels, int kTokens>
__attribute__((always_inline)) inline F32 tile_rows(const F32* tile, int t, int p) {
  return tile[t * kPanels + p];
}

}  // namespace
}  // namespace moe::cpu

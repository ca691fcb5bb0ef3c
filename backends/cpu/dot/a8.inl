// Dot products of quantised weights with int8 activations, exact in the integers.
//
// kPanelRows rows are taken together, one a lane: their bytes are interleaved by dwords, so one broadcast dword of activations
// meets four elements of every row and no horizontal sum is ever needed (the layout of ik_llama.cpp's _R8 types, made on the
// fly so that files stay mapped as they are). A panel covers a chunk of 256 elements and serves up to kTokenGroup tokens.
//
//   panel.q, one group of 32:   [ row 0: 0..3 | row 1: 0..3 | ... ]  [ row 0: 4..7 | ... ]  ... 8 such registers
//
// One output is one lane of one accumulator: groups are added in ascending order whatever the size of the call, which is what
// makes its bits independent of rows and tokens. Lanes beyond the last row repeat it and are not stored.
//   acc += x.scale · (Σ scale · (integer dot) + bias · (sum of activations))
#pragma once

namespace moe::cpu {
namespace {

constexpr int kTokenGroup = 128;
constexpr int kTileRows = kTilePanels * kPanelRows;
constexpr int kGroupBytes = 32 * kPanelRows;

struct alignas(64) Panel {
  uint8_t q[kChunk * kPanelRows];
  float scale[16 * kPanelRows];  // (groups, rows)
  float bias[16 * kPanelRows];
};

template <class F>
inline void make_panel(const typename F::Block* const* rows, int n_blocks, Panel& panel) {
  alignas(64) uint8_t packed[kPacked<F> ? F::kRaws * kGroupBytes : 64];
  uint8_t* raw = kPacked<F> ? packed : panel.q;
  for (int i = 0; i < F::kRaws; ++i) {
    Bytes32 part[kPanelRows];
    for (int r = 0; r < kPanelRows; ++r) part[r] = F::raw(rows[r], i, n_blocks);
    interleave_rows(part, raw + i * kGroupBytes);
  }
  if constexpr (kPacked<F>) F::template unpack<PanelBytes<F>, kPanelVecs>(raw, panel.q);
  F::panel_scales(rows, n_blocks, panel.scale, panel.bias);
}

// part (kTokens, kPanels) += scale · dot + bias · sum over dwords kFirst .. kFirst + kCount of group g
template <class F, int kFirst, int kCount, int kPanels, int kTokens>
MOE_INLINE inline void add_group(const Panel* panels, int g, const BlockA8* const* x, F32* part) {
  const uint8_t* q[kPanels];
  const int at = (g * (32 / F::kGroup) + kFirst / 4) * kPanelRows;
  unroll<kPanels>([&](auto p) MOE_INLINE { q[p] = panels[p].q + g * kGroupBytes; });
  I32 dots[kTokens * kPanels];
  dot_dwords<F, kFirst, kCount, kPanels, kTokens>(q, x, dots);
  unroll<kTokens>([&](auto t) MOE_INLINE {
    unroll<kPanels>([&](auto p) MOE_INLINE {
      F32& sum = part[t * kPanels + p];
      sum = fma(to_f32(dots[t * kPanels + p]), tile_scale<kTokens>(panels[p].scale + at, t), sum);
      if constexpr (F::kBias) {
        sum = fma(tile_sum<kFirst, kCount, kTokens>(x, t), tile_scale<kTokens>(panels[p].bias + at, t), sum);
      }
    });
  });
}

// Asks for a chunk of kTileRows rows while tiles of an earlier one are multiplied. Little by little: so many lines at once wait
// for each other and everything else for them (q8_0, 32 tokens from memory on one core of an EPYC: 6.7 GB/s at once, 9.5 so).
// Or, without kSpreadReads, at once and further ahead: counting lines takes ARM 2 to 9 % of all its instructions.
constexpr int64_t kChunksAhead = kSpreadReads ? 2 : 4;

template <class F, bool kSpread = kSpreadReads>
class ChunkAhead {
 public:
  // Chunk `chunk` of the panels at row r, counting on into those that follow.
  ChunkAhead(const DotArgs& args, int64_t r, int64_t chunk) : stride_(static_cast<int64_t>(args.w_stride)) {
    const int64_t n_chunks = chunks_of(args.n_in), first = r + chunk / n_chunks * kTileRows;
    row_ = static_cast<const char*>(args.w) + static_cast<size_t>(first) * args.w_stride + chunk % n_chunks * kBytes;
    rows_left_ = args.n_rows - first < kTileRows ? args.n_rows - first : kTileRows;
  }
  // Lines for each of n calls to ask().
  static int share(int n) { return kLines / n + 1; }

  MOE_INLINE void ask(int n_lines) {
    for (; n_lines > 0 && rows_left_ > 0; --n_lines) {
      __builtin_prefetch(row_ + at_);
      at_ += 64;
      if (at_ >= kBytes) at_ = 0, row_ += stride_, --rows_left_;
    }
  }
  void ask_all() { ask(kLines); }

 private:
  static constexpr int64_t kBytes = sizeof(typename F::Block) * (kChunk / F::kBlock);
  static constexpr int kLines = (kBytes + 63) / 64 * kTileRows;
  const char* row_;
  int64_t at_ = 0, stride_, rows_left_;
};

// Rows that are no whole tile, the last of a call, are not asked for. Inlined, as GCC 12 takes a function that only prefetches
// for one without effect and drops its calls.
template <class F>
class ChunkAhead<F, false> {
 public:
  MOE_INLINE ChunkAhead(const DotArgs& args, int64_t r, int64_t chunk) {
    constexpr int64_t kBytes = sizeof(typename F::Block) * (kChunk / F::kBlock);
    const int64_t n_chunks = chunks_of(args.n_in), first = r + chunk / n_chunks * kTileRows;
    if (args.n_rows - first < kTileRows) return;
    const char* row = static_cast<const char*>(args.w) + static_cast<size_t>(first) * args.w_stride + chunk % n_chunks * kBytes;
    for (int i = 0; i < kTileRows; ++i, row += args.w_stride) {
      for (int64_t at = 0; at < kBytes; at += 64) __builtin_prefetch(row + at);
    }
  }
  static int share(int) { return 0; }
  void ask(int) {}
  void ask_all() {}
};

// acc: (kTokens, kTilePanels, kPanelRows), of which the first kPanels are of this call; x: (kTokens) where each activation
// row's chunk begins
template <class F, int kPanels, int kTokens>
MOE_TILE inline void a8_tile(const Panel* panels, int n_groups, const BlockA8* const* x, float* acc, ChunkAhead<F>& ahead,
                             int lines) {
  F32 part[kTokens * kPanels];
  unroll<kTokens * kPanels>([&](auto i) MOE_INLINE { part[i] = splat(0.0f); });
  for (int g = 0; g < n_groups; ++g) {
    ahead.ask(lines);
    const BlockA8* block[kTokens];
    unroll<kTokens>([&](auto t) MOE_INLINE { block[t] = x[t] + g; });
    if constexpr (F::kGroup == 32) {
      add_group<F, 0, 8, kPanels, kTokens>(panels, g, block, part);
    } else {
      add_group<F, 0, 4, kPanels, kTokens>(panels, g, block, part);
      add_group<F, 4, 4, kPanels, kTokens>(panels, g, block, part);
    }
  }
  unroll<kTokens>([&](auto t) MOE_INLINE {
    unroll<kPanels>([&](auto p) MOE_INLINE {
      float* to = acc + (t * kTilePanels + p) * kPanelRows;
      store(to, fma(tile_rows<kPanels, kTokens>(part, t, p), splat(x[t]->scale), load(to)));
    });
  });
}

template <class F, int kPanels>
inline void a8_tiles(const Panel* panels, int n_groups, const BlockA8* const* x, int n_tokens, float* acc,
                     ChunkAhead<F> ahead) {
  constexpr int kStride = kTilePanels * kPanelRows;
  const int lines = ChunkAhead<F>::share((n_tokens + kTileTokens - 1) / kTileTokens * (kChunk / 32));  // a group
  int t = 0;
  for (; t + kTileTokens <= n_tokens; t += kTileTokens) {
    a8_tile<F, kPanels, kTileTokens>(panels, n_groups, x + t, acc + t * kStride, ahead, lines);
  }
  if constexpr (kTileTokens > 4) {
    if (t + 4 <= n_tokens) a8_tile<F, kPanels, 4>(panels, n_groups, x + t, acc + t * kStride, ahead, lines), t += 4;
  }
  if constexpr (kTileTokens > 2) {
    if (t + 2 <= n_tokens) a8_tile<F, kPanels, 2>(panels, n_groups, x + t, acc + t * kStride, ahead, lines), t += 2;
  }
  if (t < n_tokens) a8_tile<F, kPanels, 1>(panels, n_groups, x + t, acc + t * kStride, ahead, lines);
}

// Rows r .. r + n of the call against tokens t .. t + m; n ≤ kTileRows, m ≤ kTokenGroup.
template <class F>
inline void a8_panels(const DotArgs& args, int64_t r, int n, int64_t t, int m) {
  alignas(64) float acc[kTokenGroup * kTileRows];
  for (int i = 0; i < m * kTileRows; ++i) acc[i] = 0.0f;
  Panel panels[kTilePanels];
  const int n_panels = n > kPanelRows ? 2 : 1;
  for (int64_t i = 0; r == 0 && t == 0 && i < kChunksAhead; ++i) ChunkAhead<F>(args, 0, i).ask_all();
  for (int64_t chunk = 0; chunk < chunks_of(args.n_in); ++chunk) {
    const int n_blocks = blocks_of_chunk<F>(args.n_in, chunk), n_groups = n_blocks * F::kBlock / 32;
    for (int p = 0; p < n_panels; ++p) {
      const typename F::Block* rows[kPanelRows];
      for (int i = 0; i < kPanelRows; ++i) {
        const int row = p * kPanelRows + i;
        rows[i] = block_at<F>(
            static_cast<const uint8_t*>(args.w) + static_cast<size_t>(r + (row < n ? row : n - 1)) * args.w_stride, chunk);
      }
      make_panel<F>(rows, n_blocks, panels[p]);
    }
    // Tokens behind the first kTokenGroup find the rows in a cache.
    const ChunkAhead<F> ahead(args, t == 0 ? r : args.n_rows, chunk + kChunksAhead);
    const BlockA8* x[kTokenGroup];
    for (int i = 0; i < m; ++i) x[i] = static_cast<const BlockA8*>(args.x[t + i]) + chunk * (kChunk / 32);
    if (n_panels == kTilePanels) {
      a8_tiles<F, kTilePanels>(panels, n_groups, x, m, acc, ahead);
    } else {
      a8_tiles<F, 1>(panels, n_groups, x, m, acc, ahead);
    }
  }
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; j += kPanelRows) {
      const F32 sums = load(acc + i * kTileRows + j);
      if (n - j >= kPanelRows) {
        store(args.y[t + i] + r + j, sums);
      } else {
        store_n(args.y[t + i] + r + j, sums, n - j);
      }
    }
  }
}

// The path for up to kRowTokens tokens; dot/a8_rows.inl, where the instruction set has it.
template <class F>
void dot_a8_few(const DotArgs& args);

template <class F>
void dot_a8(const DotArgs& args) {
  if constexpr (kRowTokens > 0) {
    if (args.n_tokens <= kRowTokens) return dot_a8_few<F>(args);
  }
  for (int64_t r = 0; r < args.n_rows; r += kTileRows) {
    const int n = static_cast<int>(args.n_rows - r < kTileRows ? args.n_rows - r : kTileRows);
    for (int64_t t = 0; t < args.n_tokens; t += kTokenGroup) {
      const int m = static_cast<int>(args.n_tokens - t < kTokenGroup ? args.n_tokens - t : kTokenGroup);
      a8_panels<F>(args, r, n, t, m);
    }
  }
}

}  // namespace
}  // namespace moe::cpu

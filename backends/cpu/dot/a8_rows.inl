// Dot products of quantised weights with int8 activations for a few tokens, as fast as the weights can be read.
//
// Where a panel (dot/a8.inl) interleaves rows by dwords, here kRowLanes rows share a register by 16 bytes, which takes a
// quarter of the shuffles; the sums then lie four a row and meet in a tree of additions, which pays for up to kRowTokens
// tokens.
//
//   w, elements 0..15 of a group:  [ row 0: 0..15 | row 1: 0..15 | ... ]  next register: elements 16..31
//   x:                             [        0..15 |        0..15 | ... ]
//
// Four registers of rows, a quad, make the kPanelRows lanes in which the float steps are the panel's, in its order: same bits.
// Quad q holds rows q · kRowLanes ..; transposing puts row q · kRowLanes + l into lane 4 l + q.
//
// A quad is read along its rows for up to kRowSpan chunks, so that memory sees few, long streams; dot products wait in a
// buffer.
#pragma once

#include "backends/cpu/dot/unpack.inl"
//
#include "backends/cpu/dot/a8.inl"

namespace moe::cpu {
namespace {

static_assert(kPanelRows == 4 * kRowLanes);

constexpr int kRowSpan = 16;

template <class F>
constexpr int kScalesOfChunk = kChunk / F::kGroup;
template <class F>
constexpr int kChunkBytes = sizeof(typename F::Block) * (kChunk / F::kBlock);

// Row of the call's block of kPanelRows in lane i.
constexpr int row_of_lane(int i) { return i % 4 * kRowLanes + i / 4; }

// Lines of kPanelRows rows of a chunk, and how many of them are asked for at once: some with every piece of a quad, the rest
// with the chunk's scales, so that memory always has work.
template <class F>
constexpr int kChunkLines = (kPanelRows * kChunkBytes<F> + 63) / 64;
template <class F>
constexpr int kPieceLines = kChunkLines<F> / (4 * F::kRaws);
template <class F>
constexpr int kScaleLines = kChunkLines<F> - 4 * F::kRaws* kPieceLines<F>;

// Asks for what lies ahead in the order of addresses, not beyond the call's rows. Measured on one core of an EPYC (Zen 5): a
// quad and 2 KB, but 11 KB at least; the four streams alone, without this, read 10 GB/s instead of 30. Of rows too long for the
// first-level cache to hold a quad, each is read ahead by itself.
constexpr int64_t kLeastAhead = 11 << 10, kBeyondQuad = 2 << 10, kLongQuad = 24 << 10;
struct ReadAhead {
  const char* line;     // the next to ask for
  const char* row_end;  // where the row ends that it is in, or all of them where they lie without gaps
  const char* end;
  int64_t distance, row_bytes, gap;  // gap: what narrow experts leave out of each row
  bool along_rows;

  template <class F>
  static ReadAhead of(const DotArgs& args) {
    const char* first = static_cast<const char*>(args.w);
    const auto stride = static_cast<int64_t>(args.w_stride);
    const int64_t row = args.n_in / F::kBlock * static_cast<int64_t>(sizeof(typename F::Block));
    const char* end = first + (args.n_rows - 1) * stride + row;
    if (kRowLanes * row > kLongQuad) return {end - 1, end, end, 0, row, 0, true};
    const int64_t read = kRowLanes * row, least = read + kBeyondQuad > kLeastAhead ? read + kBeyondQuad : kLeastAhead;
    ReadAhead ahead{first, end, end, least + 4 * read * kScaleLines<F> / kChunkLines<F>, row, stride - row, false};
    ahead.row_end = ahead.gap > 0 ? first + row : end;
    for (int64_t i = 0; i < ahead.distance; i += 64) ahead.ask<1>();
    return ahead;
  }
  void start_panel(const char* rows) {
    if (along_rows) return;
    const int64_t n = gap > 0 ? distance / row_bytes : 0;
    const char* row = rows + n * (row_bytes + gap);
    line = row + (distance - n * row_bytes);
    if (gap > 0) row_end = row + row_bytes;
    if (line >= end) line = end - 1, row_end = end;
  }
  template <int kLines>
  __attribute__((always_inline)) void ask() {
    MOE_UNROLL for (int i = 0; i < kLines; ++i) {
      __builtin_prefetch(line);
      line += 64;
      if (line >= row_end) next_row();
    }
  }
  void next_row() {
    if (gap > 0 && row_end < end)
      line = row_end + gap, row_end = line + row_bytes;
    else
      line = end - 1;
  }
};

__attribute__((always_inline)) inline void read_ahead_along(const void* row, int64_t bytes) {
  const char* p = static_cast<const char*>(row) + kBeyondQuad;
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
}

// The tokens' activations; those of a short last chunk in a copy that zeros continue.
struct RowActivations {
  int n_tokens;
  int64_t n_full;
  const BlockA8* rows[kRowTokens];
  BlockA8 last[kRowTokens][kChunk / 32];

  explicit RowActivations(const DotArgs& args) : n_tokens(static_cast<int>(args.n_tokens)), n_full(args.n_in / kChunk) {
    const int64_t n_left = args.n_in % kChunk / 32;
    for (int t = 0; t < n_tokens; ++t) {
      rows[t] = static_cast<const BlockA8*>(args.x[t]);
      for (int64_t i = 0; n_left > 0 && i < kChunk / 32; ++i) {
        last[t][i] = i < n_left ? rows[t][n_full * (kChunk / 32) + i] : BlockA8{};
      }
    }
  }
  const BlockA8* chunk(int t, int64_t c) const { return c < n_full ? rows[t] + c * (kChunk / 32) : last[t]; }
};

// kPanelRows rows of weights from row r of the call, the last repeated; a short last chunk in a copy that zeros continue.
template <class F>
struct WeightRows {
  using Block = typename F::Block;
  static constexpr int kBlocks = kChunk / F::kBlock;
  int64_t n_full;
  const Block* rows[kPanelRows];
  Block last[kPanelRows][kBlocks];

  WeightRows(const DotArgs& args, int64_t r, int n) : n_full(args.n_in / kChunk) {
    const int64_t n_left = args.n_in % kChunk / F::kBlock;
    for (int i = 0; i < kPanelRows; ++i) {
      const int64_t row = r + (i < n ? i : n - 1);
      rows[i] = block_at<F>(static_cast<const uint8_t*>(args.w) + static_cast<size_t>(row) * args.w_stride, 0);
      for (int64_t b = 0; n_left > 0 && b < kBlocks; ++b) last[i][b] = b < n_left ? rows[i][n_full * kBlocks + b] : Block{};
    }
  }
  const Block* chunk(int row, int64_t c) const { return kBlocks == 1 || c < n_full ? rows[row] + c * kBlocks : last[row]; }
};

// rows: (kRowLanes) one chunk of each; dots: (n_tokens, kScalesOfChunk / 4, 4, kRowLanes, 4), of which this is one quad
template <class F>
inline void dot_quad(const typename F::Block* const* rows, const RowActivations& x, int64_t chunk, ReadAhead& ahead,
                     int32_t* dots) {
  constexpr int kPiece = 32 * kRowLanes;
  alignas(64) uint8_t w[kChunk * kRowLanes];
  alignas(64) uint8_t packed[kPacked<F> ? F::kRaws * kPiece : 64];
  uint8_t* raw = kPacked<F> ? packed : w;
  if constexpr (!kSpreadReads) ahead.ask<F::kRaws * kPieceLines<F>>();
  MOE_UNROLL for (int i = 0; i < F::kRaws; ++i) {
    Bytes32 piece[kRowLanes];
    if constexpr (kSpreadReads) ahead.ask<kPieceLines<F>>();
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

// part + scale · dot + bias · sum for dwords kFirst .. kFirst + kCount of the block x
template <class F, int kFirst, int kCount>
inline F32 add_scaled(I32 dot, const BlockA8& x, const float* scale, const float* bias, F32 part) {
  if constexpr (kRowOffset<F> != 0) dot = less_excess<kRowOffset<F>, kFirst, kCount>(dot, x);
  part = fma(to_f32(dot), load(scale), part);
  if constexpr (F::kBias) part = fma(activation_sum<kFirst, kCount>(x), load(bias), part);
  return part;
}

// sum + x.scale · Σ of a chunk; dots as dot_quad leaves them for one token
template <class F>
inline F32 add_chunk(const int32_t* dots, int n_scales, const BlockA8* x, const float* scale, const float* bias, F32 sum) {
  F32 part = splat(0.0f);
  for (int g = 0; g < n_scales; g += 4) {
    I32 dot[4];
    transpose_lanes(dots + g * kPanelRows, dot);
    MOE_UNROLL for (int i = 0; i < 4; ++i) {
      if (g + i >= n_scales) break;
      const int at = (g + i) * kPanelRows;
      if constexpr (F::kGroup == 32) {
        part = add_scaled<F, 0, 8>(dot[i], x[g + i], scale + at, bias + at, part);
      } else if (i % 2 == 0) {
        part = add_scaled<F, 0, 4>(dot[i], x[(g + i) / 2], scale + at, bias + at, part);
      } else {
        part = add_scaled<F, 4, 4>(dot[i], x[(g + i) / 2], scale + at, bias + at, part);
      }
    }
  }
  return fma(part, splat(x->scale), sum);
}

// words (F::kScales, 8, kPanelRows), staged
template <class F>
inline void staged_scales(uint16_t* words, float* scale, float* bias) {
  for (int k = 0; k < F::kScales; ++k) {
    uint16_t* from = words + k * kWordsOfPanel;
    order_words(from);
    for (int i = 0; i < kChunk / 32; ++i) store((k == 0 ? scale : bias) + i * kPanelRows, F::scale_of(from + i * kPanelRows));
  }
}

// Rows r .. r + n of the call, n ≤ kPanelRows, against all its tokens.
template <class F>
inline void a8_few_rows(const DotArgs& args, const RowActivations& x, int64_t r, int n, ReadAhead& ahead) {
  constexpr int kTokenSize = kScalesOfChunk<F> * kPanelRows;
  alignas(64) int32_t dots[kRowSpan * kRowTokens * kTokenSize];
  alignas(64) float scale[kTokenSize], bias[kTokenSize];
  constexpr int kChunkWords = F::kScales * kWordsOfPanel;
  alignas(64) uint16_t words[F::kScales == 0 ? 1 : kRowSpan * kChunkWords];
  const WeightRows<F> w(args, r, n);
  F32 sum[kRowTokens];
  for (int t = 0; t < x.n_tokens; ++t) sum[t] = splat(0.0f);
  const int64_t n_chunks = chunks_of(args.n_in);
  for (int64_t begin = 0; begin < n_chunks; begin += kRowSpan) {
    const int64_t end = begin + kRowSpan < n_chunks ? begin + kRowSpan : n_chunks;
    for (int q = 0; q < 4; ++q) {
      int32_t* to = dots + q * 4 * kRowLanes;
      for (int64_t chunk = begin; chunk < end; ++chunk, to += x.n_tokens * kTokenSize) {
        const typename F::Block* rows[kRowLanes];
        for (int i = 0; i < kRowLanes; ++i) rows[i] = w.chunk(q * kRowLanes + i, chunk);
        for (int i = 0; ahead.along_rows && i < kRowLanes; ++i) read_ahead_along(rows[i], kChunkBytes<F>);
        dot_quad<F>(rows, x, chunk, ahead, to);
        uint16_t* staged = words + (chunk - begin) * kChunkWords;
        if constexpr (F::kScales > 0) stage_words<F, 0>(rows, q, staged);
        if constexpr (F::kScales > 1) stage_words<F, 1>(rows, q, staged + kWordsOfPanel);
      }
    }
    const int32_t* from = dots;
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      ahead.ask<kScaleLines<F>>();
      if constexpr (F::kScales > 0) {
        staged_scales<F>(words + (chunk - begin) * kChunkWords, scale, bias);
      } else {
        const typename F::Block* rows[kPanelRows];
        for (int i = 0; i < kPanelRows; ++i) rows[i] = w.chunk(row_of_lane(i), chunk);
        F::panel_scales(rows, kChunk / F::kBlock, scale, bias);
      }
      const int n_scales = blocks_of_chunk<F>(args.n_in, chunk) * F::kBlock / F::kGroup;
      for (int t = 0; t < x.n_tokens; ++t, from += kTokenSize) {
        sum[t] = add_chunk<F>(from, n_scales, x.chunk(t, chunk), scale, bias, sum[t]);
      }
    }
  }
  for (int t = 0; t < x.n_tokens; ++t) {
    alignas(64) float lanes[kPanelRows];
    store(lanes, sum[t]);
    for (int i = 0; i < kPanelRows; ++i) {
      if (row_of_lane(i) < n) args.y[t][r + row_of_lane(i)] = lanes[i];
    }
  }
}

// n_tokens ≤ kRowTokens
template <class F>
void dot_a8_few(const DotArgs& args) {
  const RowActivations x(args);
  ReadAhead ahead = ReadAhead::of<F>(args);
  for (int64_t r = 0; r < args.n_rows; r += kPanelRows) {
    ahead.start_panel(static_cast<const char*>(args.w) + static_cast<size_t>(r) * args.w_stride);
    a8_few_rows<F>(args, x, r, static_cast<int>(args.n_rows - r < kPanelRows ? args.n_rows - r : kPanelRows), ahead);
  }
}

}  // namespace
}  // namespace moe::cpu

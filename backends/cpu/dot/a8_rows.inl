// Dot products of quantised weights with int8 activations for a few tokens, as fast as the weights can be read.
//
// Where a panel (dot/a8.inl) interleaves rows by dwords, here kRowLanes rows share a register by 16 bytes, which takes a
// quarter of the shuffles; the sums then lie four a row and meet in a tree of additions, which pays for up to kRowTokens
// tokens.
//
//   w, elements 0..15 of a group:  [ row 0: 0..15 | row 1: 0..15 | ... ]  next register: elements 16..31
//   x:                             [        0..15 |        0..15 | ... ]
//
// Where a register has no more than 16 bytes (ARM), it is the sums that lie so.
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
#include "backends/cpu/dot/read_ahead.inl"

namespace moe::cpu {
namespace {

template <class F>
constexpr int kScalesOfChunk = kChunk / F::kGroup;

// Row of the call's block of kPanelRows in lane i.
constexpr int row_of_lane(int i) { return i % 4 * kRowLanes + i / 4; }

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

// rows: (kRowLanes) one chunk of each; dots: (n_tokens, kScalesOfChunk / 4, 4, kRowLanes, 4), of which this is one quad. See
// dot/quad_shared.inl for rows that share a register, dot/quad_apart.inl for those with one each.
template <class F>
inline void dot_quad(const typename F::Block* const* rows, const RowActivations& x, int64_t chunk,
                     ReadAhead<kSpreadReads>& ahead, int32_t* dots);

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
inline void a8_few_rows(const DotArgs& args, const RowActivations& x, int64_t r, int n, ReadAhead<kSpreadReads>& ahead) {
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
      if constexpr (!kSpreadReads) ahead.start_quad<F>(r + q * kRowLanes, begin);
      for (int64_t chunk = begin; chunk < end; ++chunk, to += x.n_tokens * kTokenSize) {
        const typename F::Block* rows[kRowLanes];
        for (int i = 0; i < kRowLanes; ++i) rows[i] = w.chunk(q * kRowLanes + i, chunk);
        for (int i = 0; ahead.along_rows && i < kRowLanes; ++i) read_ahead_along(rows[i], kChunkBytes<F>);
        if constexpr (!kSpreadReads) ahead.ask_chunk<F>();
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
  auto ahead = ReadAhead<kSpreadReads>::of<F>(args);
  for (int64_t r = 0; r < args.n_rows; r += kPanelRows) {
    ahead.start_panel(static_cast<const char*>(args.w) + static_cast<size_t>(r) * args.w_stride);
    a8_few_rows<F>(args, x, r, static_cast<int>(args.n_rows - r < kPanelRows ? args.n_rows - r : kPanelRows), ahead);
  }
}

}  // namespace
}  // namespace moe::cpu

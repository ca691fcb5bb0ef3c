// Which weights a few tokens ask for ahead of their products, so that memory always has work. See dot/a8_rows.inl for quads.
//
//   kSpreadReads   a few lines with every piece of a quad, the rest with the chunk's scales, all in the order of addresses
//   otherwise      with every chunk of a quad that of a later quad, which takes fewer instructions (q8_0 on ARM: 23 instead of
//                  100 for 1,000 multiply-adds)
//
// Always inlined, as GCC 12 takes a function that only prefetches for one without effect and drops its calls.
#pragma once

#include "backends/cpu/dot/unpack.inl"

namespace moe::cpu {
namespace {

static_assert(kPanelRows == 4 * kRowLanes);

constexpr int kRowSpan = 16;  // chunks that are read of a quad before the next one

template <class F>
constexpr int kChunkBytes = sizeof(typename F::Block) * (kChunk / F::kBlock);

// Lines of kPanelRows rows of a chunk, and how many of them are asked for at once: some with every piece of a quad, the rest
// with the chunk's scales.
template <class F>
constexpr int kChunkLines = (kPanelRows * kChunkBytes<F> + 63) / 64;
template <class F>
constexpr int kPieceLines = kChunkLines<F> / (4 * F::kRaws);
template <class F>
constexpr int kScaleLines = kChunkLines<F> - 4 * F::kRaws* kPieceLines<F>;

// How far ahead, measured on one core of an EPYC (Zen 5): a quad and 2 KB, but 11 KB at least; its four streams alone, without
// this, read 10 GB/s instead of 30. Of rows too long for the first-level cache to hold a quad, each is read ahead by itself.
constexpr int64_t kLeastAhead = 11 << 10, kBeyondQuad = 2 << 10, kLongQuad = 24 << 10;

// One for a call. Nothing is asked for beyond the call's rows.
template <bool kSpread>
struct ReadAhead;

template <>
struct ReadAhead<true> {
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
  template <class F>
  void start_quad(int64_t, int64_t) {}
  template <class F>
  void ask_chunk() {}

  template <int kLines>
  MOE_INLINE void ask() {
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

template <>
struct ReadAhead<false> {
  const char* first;  // row of the call
  int64_t stride, n_rows;
  static constexpr bool along_rows = false;
  int64_t distance;          // in rows, of whole quads
  const char* at = nullptr;  // the next chunk of the first row of a quad

  template <class F>
  static ReadAhead of(const DotArgs& args) {
    const int64_t n_chunks = chunks_of(args.n_in), read = (n_chunks < kRowSpan ? n_chunks : kRowSpan) * kChunkBytes<F>;
    const int64_t quads = kLeastAhead / (kRowLanes * read + 1) + 1;
    const ReadAhead ahead{static_cast<const char*>(args.w), static_cast<int64_t>(args.w_stride), args.n_rows,
                          quads * kRowLanes};
    for (int64_t r = 0; r < ahead.distance && r < args.n_rows; ++r) {
      for (int64_t i = 0; i < read; i += 64) __builtin_prefetch(ahead.first + r * ahead.stride + i);
    }
    return ahead;
  }
  void start_panel(const char*) {}

  // The call's last quads ask for what they read themselves.
  template <class F>
  void start_quad(int64_t row, int64_t chunk) {
    if (row + distance < n_rows) row += distance;
    at = first + row * stride + chunk * kChunkBytes<F>;
  }
  template <class F>
  MOE_INLINE void ask_chunk() {
    MOE_UNROLL for (int r = 0; r < kRowLanes; ++r) {
      MOE_UNROLL for (int i = 0; i < kChunkBytes<F>; i += 64) __builtin_prefetch(at + r * stride + i);
    }
    at += kChunkBytes<F>;
  }
  template <int>
  void ask() {}
};

MOE_INLINE inline void read_ahead_along(const void* row, int64_t bytes) {
  const char* p = static_cast<const char*>(row) + kBeyondQuad;
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
}

}  // namespace
}  // namespace moe::cpu

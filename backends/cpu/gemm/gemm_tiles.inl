// Matrix products C (+)= op(A) · op(B) on one thread, after Goto and van de Geijn, "Anatomy of High-Performance Matrix
// Multiplication" (ACM TOMS 34(3), 2008), section 4.
//
//   for each block of k       kGemmDepth or less: a B panel stays in the first-level cache
//     for each block of m     kGemmBlock rows or less: packed A stays in the second-level cache
//       for each B panel      packed, or read where it lies when only one A panel meets it
//         for each A panel    a tile of C in registers: per word of k, kGemmVecs loads and R broadcasts for R · kGemmVecs FMAs
//
// A tile starts from 0 or from what is in C, so the blocks of k continue one chain of multiply-adds and leave no trace.
//
// Two FMAs and two loads a cycle: 14 x 2 registers with AVX-512 need 14 cycles for FMAs and 8 for loads, 6 x 2 with AVX2 6 and
// 4. Rejected: A unpacked (rows a power of two apart fall into one set of the cache), B packed as a whole (for few rows of A it
// would be written to memory and read again).
#pragma once

#include "backends/cpu/gemm/gemm_ahead.inl"

namespace moe::cpu {
namespace {

constexpr int kGemmRows = kLanes == 16 ? 14 : kLanes == 8 ? 6 : 4;
constexpr int kGemmVecs = kLanes == 1 ? 4 : 2;
constexpr int kGemmCols = kGemmVecs * kLanes;
constexpr int64_t kGemmDepth = 384;              // words
constexpr int64_t kGemmInPlace = 4 * kGemmRows;  // up to so many rows of A, rows of B are read where they lie
constexpr int64_t kGemmBlock = kGemmRows * (kLanes == 16 ? 38 : 86);

constexpr size_t kGemmScratch = sizeof(float) * static_cast<size_t>((kGemmBlock + kGemmCols) * kGemmDepth + 2 * 16);

// What the panels of one tile are, and where it goes.
struct GemmTile {
  const float* a;  // (k, R) words
  const float* b;  // (k) rows of b_stride words
  int64_t b_stride;
  int64_t k;            // words
  float* c[kGemmRows];  // (R) rows of the columns
  int64_t last;         // columns of the last register, 1 .. kLanes
  bool continues;       // from what is in C
};

template <int V>
inline void load_tile_row(const GemmTile& t, const float* c, F32* row) {
  MOE_UNROLL for (int v = 0; v < V - 1; ++v) row[v] = load(c + v * kLanes);
  row[V - 1] = t.last == kLanes ? load(c + (V - 1) * kLanes) : load_n(c + (V - 1) * kLanes, t.last);
}
template <int V>
inline void store_tile_row(const GemmTile& t, float* c, const F32* row) {
  MOE_UNROLL for (int v = 0; v < V - 1; ++v) store(c + v * kLanes, row[v]);
  if (t.last == kLanes)
    store(c + (V - 1) * kLanes, row[V - 1]);
  else
    store_n(c + (V - 1) * kLanes, row[V - 1], t.last);
}

// R rows by V registers of C.
template <class E, int R, int V>
void gemm_tile(const GemmTile& t) {
  F32 sum[R][V];
  MOE_UNROLL_16 for (int r = 0; r < R; ++r) { MOE_UNROLL for (int v = 0; v < V; ++v) sum[r][v] = splat(0.0f); }
  if (t.continues) {
    MOE_UNROLL_16 for (int r = 0; r < R; ++r) load_tile_row<V>(t, t.c[r], sum[r]);
  }
  const float* a = t.a;
  const float* b = t.b;
  for (int64_t p = 0; p < t.k; ++p) {
    F32 columns[V];
    MOE_UNROLL for (int v = 0; v < V; ++v) columns[v] = load(b + v * kLanes);
    MOE_UNROLL_16 for (int r = 0; r < R; ++r) {
      const F32 row = splat(a[r]);
      MOE_UNROLL for (int v = 0; v < V; ++v) sum[r][v] = E::mul_add(row, columns[v], sum[r][v]);
    }
    a += R;
    b += t.b_stride;
  }
  MOE_UNROLL_16 for (int r = 0; r < R; ++r) store_tile_row<V>(t, t.c[r], sum[r]);
}

using GemmTileFn = void (*)(const GemmTile&);

// gemm_tile<E, rows, vecs> for the numbers of a call, 1 .. R and 1 .. V.
template <class E, int R, int V>
inline GemmTileFn tile_for(int rows, int vecs) {
  if constexpr (V > 1) {
    if (vecs < V) return tile_for<E, R, V - 1>(rows, vecs);
  }
  if constexpr (R > 1) {
    if (rows < R) return tile_for<E, R - 1, V>(rows, vecs);
  }
  return gemm_tile<E, R, V>;
}

// n cut into equal pieces of at most `largest`, multiples of `grain` but for the last.
inline int64_t even_piece(int64_t n, int64_t largest, int64_t grain) {
  const int64_t pieces = (n + largest - 1) / largest;
  const int64_t piece = (n + pieces - 1) / pieces;
  return (piece + grain - 1) / grain * grain;
}

inline float* gemm_row(float* c, int64_t ldc, const int32_t* order, int64_t i) { return c + (order ? order[i] : i) * ldc; }

inline int64_t at_most(int64_t n, int64_t limit) { return n < limit ? n : limit; }

// The sides of a product and how they are cut.
template <class E>
struct GemmPlan {
  using Side = GemmSide<typename E::In>;
  explicit GemmPlan(const GemmArgs& g)
      : a{static_cast<const typename E::In*>(g.a), g.lda, g.a_rows, !g.transpose_a, g.m, g.k},
        b{static_cast<const typename E::In*>(g.b), g.ldb, g.b_rows, g.transpose_b, g.n, g.k},
        empty(g.m <= 0 || g.n <= 0 || g.k <= 0),
        depth(empty ? 0 : even_piece(g.k, kGemmDepth * E::kPerWord, E::kPerWord)),
        block(empty ? 0 : even_piece(g.m, kGemmBlock, kGemmRows)) {}

  Side a_at(int64_t i, int64_t p) const { return a.sub(i, p, at_most(a.lines - i, block), at_most(a.k - p, depth)); }
  Side b_at(int64_t p) const { return b.sub(0, p, b.lines, at_most(b.k - p, depth)); }

  Side a, b;
  bool empty;
  int64_t depth, block;
};

// A product of a block of k with a block of rows.
template <class E>
struct GemmBlock {
  using Side = GemmSide<typename E::In>;
  Side a, b;
  Side next_a, next_b;  // of the block behind this one; without lines: there is none
  int64_t a_room;       // rows of op(A) from this block's first on
  float* c;             // (a.lines, b.lines)
  int64_t ldc;
  const int32_t* c_rows;  // (a.lines) or null
  bool continues;
  float* a_panels;  // scratch for (a.lines, a.k) and for a B panel
  float* b_panel;

  // Columns [j, j + kGemmCols) of op(B), or behind the last of them the next block's first.
  Side b_columns(int64_t j) const {
    const Side& from = j < b.lines ? b : next_b;
    if (j >= b.lines) j = 0;
    return from.sub(j, 0, at_most(from.lines - j, kGemmCols), from.k);
  }
};

template <class E>
inline void gemm_block(const GemmBlock<E>& g) {
  const int64_t words = gemm_words<E>(g.a.k), lines = g.a.lines;
  const int64_t height = even_piece(lines, kGemmRows, 1);  // no panel of a few rows: its chains would wait for one another
  for (int64_t i = 0; i < lines; i += height) {
    const int64_t rows = at_most(lines - i, height);
    pack_panel<E>(g.a.sub(i, 0, rows, g.a.k), g.a_room - i, g.a_panels + i * words, rows);
  }
  const int64_t down = (lines + height - 1) / height, across = (g.b.lines + kGemmCols - 1) / kGemmCols;
  GemmAhead<typename E::In> next_a(g.next_a);
  const int64_t a_share = next_a.share(down * across);
  for (int64_t j = 0; j < g.b.lines; j += kGemmCols) {
    const int64_t columns = at_most(g.b.lines - j, kGemmCols), vecs = (columns + kLanes - 1) / kLanes;
    GemmTile t{nullptr, g.b_panel, vecs * kLanes, words, {}, columns - (vecs - 1) * kLanes, g.continues};
    const auto side = g.b_columns(j);
    bool in_place = false;
    if constexpr (sizeof(typename E::In) == sizeof(float)) {
      in_place = !side.lines_are_rows && !side.order && lines <= kGemmInPlace && t.last == kLanes;
      if (in_place) t.b = side.at, t.b_stride = side.stride;
    }
    if (!in_place) pack_panel<E>(side, g.b.lines - j, g.b_panel, t.b_stride);
    GemmAhead<typename E::In> next_b(g.b_columns(j + kGemmCols));
    const int64_t b_share = next_b.share(down);
    for (int64_t i = 0; i < lines; i += height) {
      const int64_t rows = at_most(lines - i, height), below = at_most(lines - i - rows, height);
      t.a = g.a_panels + i * words;
      for (int64_t r = 0; r < rows; ++r) t.c[r] = gemm_row(g.c, g.ldc, g.c_rows, i + r) + j;
      if (g.continues) ask_for_tile(g.c + j, g.ldc, g.c_rows, i + rows, below, columns);
      next_a.ask(a_share), next_b.ask(b_share);
      tile_for<E, kGemmRows, kGemmVecs>(static_cast<int>(rows), static_cast<int>(vecs))(t);
    }
  }
}

inline void gemm_without_terms(const GemmArgs& g) {
  for (int64_t i = 0; i < g.m && !g.accumulate; ++i) {
    for (int64_t j = 0; j < g.n; ++j) gemm_row(g.c, g.ldc, g.c_rows, i)[j] = 0;
  }
}

template <class E>
void matrix_product(const GemmArgs& g) {
  if (g.m <= 0 || g.n <= 0) return;
  if (g.k <= 0) return gemm_without_terms(g);
  const GemmPlan<E> plan(g), behind(g.next ? *g.next : GemmArgs{});
  float* b_panel = static_cast<float*>(g.scratch);
  float* a_panels = b_panel + kGemmCols * kGemmDepth + 16;
  for (int64_t p = 0; p < g.k; p += plan.depth) {
    for (int64_t i = 0; i < g.m; i += plan.block) {
      const bool last = i + plan.block >= g.m, ends = last && p + plan.depth >= g.k;
      const int64_t next_i = last ? 0 : i + plan.block, next_p = last ? p + plan.depth : p;
      gemm_block<E>({plan.a_at(i, p), plan.b_at(p), ends ? behind.a_at(0, 0) : plan.a_at(next_i, next_p),
                     ends ? behind.b_at(0) : plan.b_at(next_p), g.m - i, g.c_rows ? g.c : g.c + i * g.ldc, g.ldc,
                     g.c_rows ? g.c_rows + i : nullptr, p > 0 || g.accumulate, a_panels, b_panel});
    }
  }
}

}  // namespace
}  // namespace moe::cpu

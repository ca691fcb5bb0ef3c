// Dot products with float32 activations: exact mode for every format, the only path of f32, f16 and bf16.
//
// Lanes run along the row. One output is one accumulator register, filled in ascending order and summed across lanes once at
// the end, so its bits do not depend on the size of the call. Tiles of kDenseRows x kDenseTokens share each load; rows beyond
// the last repeat it and are not stored. Block formats are decoded to floats chunk by chunk, once for kDenseGroup tokens.
#pragma once

namespace moe::cpu {
namespace {

constexpr int kDenseRows = 4;
constexpr int kDenseGroup = 32;
constexpr int kDenseDepth = 512;  // elements of a row before the next tokens: four rows of them stay in the first-level cache

struct PlainF32 {
  using Block = float;
  static F32 at(const float* p) { return load(p); }
  static F32 at_n(const float* p, int64_t n) { return load_n(p, n); }
};
struct PlainF16 {
  using Block = uint16_t;
  static F32 at(const uint16_t* p) { return load_f16(p); }
  static F32 at_n(const uint16_t* p, int64_t n) { return load_f16_n(p, n); }
};
struct PlainBF16 {
  using Block = uint16_t;
  static F32 at(const uint16_t* p) { return load_bf16(p); }
  static F32 at_n(const uint16_t* p, int64_t n) { return load_bf16_n(p, n); }
};

struct DenseAcc {
  F32 v[kDenseRows];  // of one token
};

// acc[t][r] += w[r] · x[t] over n elements, acc: (kTokens)
template <class Plain, int kTokens>
inline void dense_tile(const typename Plain::Block* const* w, const float* const* x, int64_t n, DenseAcc* acc) {
  F32 a[kTokens][kDenseRows];
  MOE_UNROLL for (int t = 0; t < kTokens; ++t) { MOE_UNROLL for (int r = 0; r < kDenseRows; ++r) a[t][r] = acc[t].v[r]; }
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    F32 xs[kTokens];
    MOE_UNROLL for (int t = 0; t < kTokens; ++t) xs[t] = load(x[t] + i);
    MOE_UNROLL for (int r = 0; r < kDenseRows; ++r) {
      const F32 row = Plain::at(w[r] + i);
      MOE_UNROLL for (int t = 0; t < kTokens; ++t) a[t][r] = fma(row, xs[t], a[t][r]);
    }
  }
  if (i < n) {
    MOE_UNROLL for (int r = 0; r < kDenseRows; ++r) {
      const F32 row = Plain::at_n(w[r] + i, n - i);
      MOE_UNROLL for (int t = 0; t < kTokens; ++t) a[t][r] = fma(row, load_n(x[t] + i, n - i), a[t][r]);
    }
  }
  MOE_UNROLL for (int t = 0; t < kTokens; ++t) { MOE_UNROLL for (int r = 0; r < kDenseRows; ++r) acc[t].v[r] = a[t][r]; }
}

template <class Plain>
inline void dense_tiles(const typename Plain::Block* const* w, const float* const* x, int64_t n, int n_tokens, DenseAcc* acc) {
  int t = 0;
  for (; t + kDenseTokens <= n_tokens; t += kDenseTokens) dense_tile<Plain, kDenseTokens>(w, x + t, n, acc + t);
  for (; t < n_tokens; ++t) dense_tile<Plain, 1>(w, x + t, n, acc + t);
}

// The part of a call that one set of accumulators serves: rows r .. r + n, tokens t .. t + m.
struct DensePart {
  int64_t r;
  int n;
  int64_t t;
  int m;
};

// Calls fn(part, w, acc) for each part of a call, then stores its outputs; w: (kDenseRows) weight rows.
template <class Fn>
inline void for_dense_parts(const DotArgs& args, Fn fn) {
  for (int64_t r = 0; r < args.n_rows; r += kDenseRows) {
    const int n = static_cast<int>(args.n_rows - r < kDenseRows ? args.n_rows - r : kDenseRows);
    const uint8_t* w[kDenseRows];
    for (int i = 0; i < kDenseRows; ++i) {
      const int64_t row = r + (i < n ? i : n - 1);
      w[i] = static_cast<const uint8_t*>(args.w) + static_cast<size_t>(row) * args.w_stride;
    }
    for (int64_t t = 0; t < args.n_tokens; t += kDenseGroup) {
      const int m = static_cast<int>(args.n_tokens - t < kDenseGroup ? args.n_tokens - t : kDenseGroup);
      DenseAcc acc[kDenseGroup];
      for (int i = 0; i < m; ++i) {
        for (int j = 0; j < kDenseRows; ++j) acc[i].v[j] = splat(0.0f);
      }
      fn(DensePart{r, n, t, m}, w, acc);
      for (int i = 0; i < m; ++i) {
        for (int j = 0; j < n; ++j) args.y[t + i][r + j] = sum(acc[i].v[j]);
      }
    }
  }
}

template <class Plain>
void dot_plain(const DotArgs& args) {
  for_dense_parts(args, [&](const DensePart& part, const uint8_t* const* rows, DenseAcc* acc) {
    for (int64_t k = 0; k < args.n_in; k += kDenseDepth) {
      const typename Plain::Block* w[kDenseRows];
      for (int i = 0; i < kDenseRows; ++i) w[i] = reinterpret_cast<const typename Plain::Block*>(rows[i]) + k;
      const float* x[kDenseGroup];
      for (int i = 0; i < part.m; ++i) x[i] = static_cast<const float*>(args.x[part.t + i]) + k;
      dense_tiles<Plain>(w, x, args.n_in - k < kDenseDepth ? args.n_in - k : kDenseDepth, part.m, acc);
    }
  });
}

template <class F>
void dot_decoded(const DotArgs& args) {
  for_dense_parts(args, [&](const DensePart& part, const uint8_t* const* rows, DenseAcc* acc) {
    alignas(64) float decoded[kDenseRows][kChunk];
    const float* w[kDenseRows];
    for (int i = 0; i < kDenseRows; ++i) w[i] = decoded[i < part.n ? i : part.n - 1];
    for (int64_t chunk = 0; chunk < chunks_of(args.n_in); ++chunk) {
      const int n_blocks = blocks_of_chunk<F>(args.n_in, chunk);
      for (int i = 0; i < part.n; ++i) decode_chunk<F>(block_at<F>(rows[i], chunk), n_blocks, decoded[i]);
      const float* x[kDenseGroup];
      for (int i = 0; i < part.m; ++i) x[i] = static_cast<const float*>(args.x[part.t + i]) + chunk * kChunk;
      dense_tiles<PlainF32>(w, x, n_blocks * F::kBlock, part.m, acc);
    }
  });
}

}  // namespace
}  // namespace moe::cpu

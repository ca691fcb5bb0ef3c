// Dot products with float32 activations: exact mode for every format, the only path of f32, f16 and bf16.
//
// Lanes run along the row. One output is one accumulator register, filled in ascending order and summed across lanes once at
// the end, so its bits do not depend on the size of the call. Tiles of kDenseRows x kDenseTokens share each load: two FMAs and
// two loads a cycle make 4 x 4 registers of AVX-512 8 cycles of FMAs and 4 of loads, 4 x 3 of AVX2 6 and 3.5.
//
// Many tokens: parts of kDensePartRows rows in pieces of kDenseDepth stay in the first-level cache while tokens pass from the
// second. Block formats are decoded to floats there.
// Few tokens: what counts is reading. Rows are taken whole, four at a time; the memory is asked for the next four, byte after
// byte, as four streams of some kilobytes each are too short for the processor to run ahead of. Block formats are decoded
// into registers.
#pragma once

namespace moe::cpu {
namespace {

constexpr int kDenseRows = 4;  // rows and tokens of a tile
constexpr int kDenseTokens = kLanes == 8 ? 3 : 4;
constexpr int kDensePartRows = 8;
constexpr int kDenseGroup = 8 * kDenseTokens;
constexpr int64_t kDenseDepth = 512;
constexpr int kDenseFew = kLanes == 8 ? 2 : 4;  // tokens whose accumulators leave registers to decode in

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
constexpr int kDenseTiles = kDensePartRows / kDenseRows;  // a token's accumulators in a part

// The part of a call that one set of accumulators serves: rows r .. r + n, tokens t .. t + m.
struct DensePart {
  int64_t r;
  int n;
  int64_t t;
  int m;
  const uint8_t* w[kDensePartRows];  // rows; beyond the last it repeats, and is not stored
  const float* x[kDenseGroup];
  DenseAcc* acc;  // (m, kDenseTiles)
};

// Asks for `bytes` from p on; the second-level cache is near enough.
inline void read_ahead(const uint8_t* p, int bytes) {
  if constexpr (kLanes > 1) {
    for (int i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
  }
}

// acc[t] += w[r] · x[t] over n elements, acc: (kTokens) of stride acc_stride. kStream: of what follows the rows at `ahead`, as
// much is asked for as is read.
template <class Plain, int kTokens, bool kStream>
inline void dense_tile(const typename Plain::Block* const* w, const float* const* x, int64_t n, DenseAcc* acc, int acc_stride,
                       const uint8_t* ahead) {
  constexpr int kStep = kDenseRows * kLanes * static_cast<int>(sizeof(typename Plain::Block));
  F32 a[kTokens][kDenseRows];
  MOE_UNROLL for (int t = 0; t < kTokens; ++t) {
    MOE_UNROLL for (int r = 0; r < kDenseRows; ++r) a[t][r] = acc[t * acc_stride].v[r];
  }
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    if constexpr (kStream) read_ahead(ahead, kStep), ahead += kStep;
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
  MOE_UNROLL for (int t = 0; t < kTokens; ++t) {
    MOE_UNROLL for (int r = 0; r < kDenseRows; ++r) acc[t * acc_stride].v[r] = a[t][r];
  }
}

// fn(constant) with the constant that n is, 1 .. kMost.
template <int kMost, class Fn>
inline void with_constant(int n, Fn fn) {
  if constexpr (kMost > 1) {
    if (n < kMost) return with_constant<kMost - 1>(n, fn);
  }
  fn.template operator()<kMost>();
}

// All tokens of a part over n elements from k on, against rows w of which the part may have fewer.
template <class Plain>
inline void dense_piece(const DensePart& part, const typename Plain::Block* const* w, int64_t k, int64_t n) {
  const float* x[kDenseGroup];
  for (int t = 0; t < part.m; ++t) x[t] = part.x[t] + k;
  for (int t = 0; t < part.m; t += kDenseTokens) {
    const int left = part.m - t;
    with_constant<kDenseTokens>(left < kDenseTokens ? left : kDenseTokens, [&]<int kTokens>() {
      for (int r = 0; r < part.n; r += kDenseRows) {
        DenseAcc* acc = part.acc + t * kDenseTiles + r / kDenseRows;
        dense_tile<Plain, kTokens, false>(w + r, x + t, n, acc, kDenseTiles, nullptr);
      }
    });
  }
}

inline void store_sums(const DotArgs& args, const DensePart& part) {
  for (int t = 0; t < part.m; ++t) {
    for (int r = 0; r < part.n; ++r) {
      args.y[part.t + t][part.r + r] = sum(part.acc[t * kDenseTiles + r / kDenseRows].v[r % kDenseRows]);
    }
  }
}

// Calls fn(part) for each part of a call, of `rows` rows, then stores its outputs.
template <class Fn>
inline void for_dense_parts(const DotArgs& args, int rows, Fn fn) {
  for (int64_t t = 0; t < args.n_tokens; t += kDenseGroup) {
    DenseAcc acc[kDenseGroup * kDenseTiles];
    DensePart part;
    part.acc = acc, part.t = t;
    part.m = static_cast<int>(args.n_tokens - t < kDenseGroup ? args.n_tokens - t : kDenseGroup);
    for (int i = 0; i < part.m; ++i) part.x[i] = static_cast<const float*>(args.x[t + i]);
    for (int64_t r = 0; r < args.n_rows; r += rows) {
      part.r = r, part.n = static_cast<int>(args.n_rows - r < rows ? args.n_rows - r : rows);
      for (int i = 0; i < rows; ++i) {
        const int64_t row = r + (i < part.n ? i : part.n - 1);
        part.w[i] = static_cast<const uint8_t*>(args.w) + static_cast<size_t>(row) * args.w_stride;
      }
      for (int i = 0; i < part.m * kDenseTiles; ++i) {
        for (F32& v : acc[i].v) v = splat(0.0f);
      }
      fn(part);
      store_sums(args, part);
    }
  }
}

template <class Plain>
void dot_plain(const DotArgs& args) {
  using Block = typename Plain::Block;
  if (args.n_tokens <= kDenseTokens) {
    return for_dense_parts(args, kDenseRows, [&](const DensePart& part) {
      const Block* w[kDenseRows];
      for (int i = 0; i < kDenseRows; ++i) w[i] = reinterpret_cast<const Block*>(part.w[i]);
      const uint8_t* ahead = part.w[0] + kDenseRows * args.w_stride;
      with_constant<kDenseTokens>(
          part.m, [&]<int kTokens>() { dense_tile<Plain, kTokens, true>(w, part.x, args.n_in, part.acc, kDenseTiles, ahead); });
    });
  }
  for_dense_parts(args, kDensePartRows, [&](const DensePart& part) {
    for (int64_t k = 0; k < args.n_in; k += kDenseDepth) {
      const Block* w[kDensePartRows];
      for (int i = 0; i < kDensePartRows; ++i) w[i] = reinterpret_cast<const Block*>(part.w[i]) + k;
      dense_piece<Plain>(part, w, k, args.n_in - k < kDenseDepth ? args.n_in - k : kDenseDepth);
    }
  });
}

// acc[t] += w[r] · x[t] over the n elements of a chunk, decoded in registers; acc: (kTokens) of stride kDenseTiles
template <class F, int kTokens>
inline void decoded_tile(const OpenChunk<F>* w, const float* const* x, int n, DenseAcc* acc) {
  F32 a[kTokens][kDenseRows];
  MOE_UNROLL for (int t = 0; t < kTokens; ++t) {
    MOE_UNROLL for (int r = 0; r < kDenseRows; ++r) a[t][r] = acc[t * kDenseTiles].v[r];
  }
  for (int g = 0; g < n / F::kGroup; ++g) {
    MOE_UNROLL for (int i = 0; i < F::kGroup; i += kLanes) {
      F32 xs[kTokens];
      MOE_UNROLL for (int t = 0; t < kTokens; ++t) xs[t] = load(x[t] + g * F::kGroup + i);
      MOE_UNROLL for (int r = 0; r < kDenseRows; ++r) {
        const F32 row = w[r].at(g, i);
        MOE_UNROLL for (int t = 0; t < kTokens; ++t) a[t][r] = fma(row, xs[t], a[t][r]);
      }
    }
  }
  MOE_UNROLL for (int t = 0; t < kTokens; ++t) {
    MOE_UNROLL for (int r = 0; r < kDenseRows; ++r) acc[t * kDenseTiles].v[r] = a[t][r];
  }
}

template <class F>
inline void decoded_few(const DotArgs& args, const DensePart& part) {
  constexpr int kChunkBytes = kChunk / F::kBlock * static_cast<int>(sizeof(typename F::Block));
  const uint8_t* ahead = part.w[0] + kDenseRows * args.w_stride;
  for (int64_t chunk = 0; chunk < chunks_of(args.n_in); ++chunk) {
    const int n_blocks = blocks_of_chunk<F>(args.n_in, chunk);
    OpenChunk<F> opened[kDenseRows];
    for (int r = 0; r < kDenseRows; ++r) opened[r].open(block_at<F>(part.w[r], chunk), n_blocks);
    read_ahead(ahead + chunk * kDenseRows * kChunkBytes, kDenseRows * kChunkBytes);
    const float* x[kDenseFew];
    for (int t = 0; t < part.m; ++t) x[t] = part.x[t] + chunk * kChunk;
    with_constant<kDenseFew>(part.m,
                             [&]<int kTokens>() { decoded_tile<F, kTokens>(opened, x, n_blocks * F::kBlock, part.acc); });
  }
}

template <class F>
void dot_decoded(const DotArgs& args) {
  if (args.n_tokens <= kDenseFew) {
    return for_dense_parts(args, kDenseRows, [&](const DensePart& part) { decoded_few<F>(args, part); });
  }
  for_dense_parts(args, kDensePartRows, [&](const DensePart& part) {
    alignas(64) float decoded[kDensePartRows][kChunk];
    const float* w[kDensePartRows];
    for (int i = 0; i < kDensePartRows; ++i) w[i] = decoded[i < part.n ? i : part.n - 1];
    for (int64_t chunk = 0; chunk < chunks_of(args.n_in); ++chunk) {
      const int n_blocks = blocks_of_chunk<F>(args.n_in, chunk);
      for (int i = 0; i < part.n; ++i) decode_chunk<F>(block_at<F>(part.w[i], chunk), n_blocks, decoded[i]);
      dense_piece<PlainF32>(part, w, chunk * kChunk, n_blocks * F::kBlock);
    }
  });
}

}  // namespace
}  // namespace moe::cpu

// Dot products of bfloat16 weights with bfloat16 activations by VDPBF16PS, which multiplies 32 pairs an instruction where FMA
// over widened weights multiplies 16.
//
//   lane j of an accumulator:  a[j] = (a[j] + w[2j+1] · x[2j+1]) + w[2j] · x[2j]     both steps fused; subnormals count as 0
//
// As in dense.inl lanes run along the row and one output is one accumulator, filled in ascending order and summed across lanes
// at the end in one fixed tree, so its bits do not depend on the size of the call. Few rows at a time keep a single token at
// memory speed, where panels of interleaved rows would not.
//
// Rows are taken by kBf16PartRows, tokens by kBf16PartTokens, both in pieces of kBf16Depth: 16 KiB of weights and 16 KiB of
// accumulators stay in the first-level cache while the activations pass from the second. 175 GMAC/s on one core of an EPYC
// (Zen 5) at 64 tokens; with a depth of 512 145, with only 4 rows a part 140, with tiles of 4 x 6 155.
#pragma once

#include "backends/cpu/dot/dense.inl"
#include "backends/cpu/vec/avx512.h"

namespace moe::cpu {
namespace {

constexpr int kBf16Rows = 4;  // rows and tokens of a tile: 16 accumulators
constexpr int kBf16Tokens = 4;
constexpr int kBf16PartRows = 8;
constexpr int kBf16PartTokens = 32;
constexpr int64_t kBf16Depth = 1024;

struct Bf16Acc {
  __m512 v[kBf16Rows];  // of one token
};

inline __m512bh load_bf16x32(const uint16_t* p) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p)); }
inline __m512bh load_bf16x32_n(const uint16_t* p, int64_t n) {  // n < 32; the others are 0
  return reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16((1u << n) - 1, p));
}

// acc[t][r] += w[r] · x[t] over n elements; acc: (kTokens) of stride acc_stride; ahead: null or, for few tokens, what to ask
// the memory for meanwhile (see dense.inl), as many bytes as are read
template <int kTokens, bool kStream>
inline void bf16_tile(const uint16_t* const* w, const uint16_t* const* x, int64_t n, Bf16Acc* acc, int acc_stride,
                      const uint8_t* ahead) {
  constexpr int kStep = kBf16Rows * 64;
  __m512 a[kTokens][kBf16Rows];
  MOE_UNROLL for (int t = 0; t < kTokens; ++t) {
    MOE_UNROLL for (int r = 0; r < kBf16Rows; ++r) a[t][r] = acc[t * acc_stride].v[r];
  }
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    if constexpr (kStream) read_ahead(ahead, kStep), ahead += kStep;
    __m512bh xs[kTokens];
    MOE_UNROLL for (int t = 0; t < kTokens; ++t) xs[t] = load_bf16x32(x[t] + i);
    MOE_UNROLL for (int r = 0; r < kBf16Rows; ++r) {
      const __m512bh row = load_bf16x32(w[r] + i);
      MOE_UNROLL for (int t = 0; t < kTokens; ++t) a[t][r] = _mm512_dpbf16_ps(a[t][r], row, xs[t]);
    }
  }
  if (i < n) {
    MOE_UNROLL for (int r = 0; r < kBf16Rows; ++r) {
      const __m512bh row = load_bf16x32_n(w[r] + i, n - i);
      MOE_UNROLL for (int t = 0; t < kTokens; ++t) a[t][r] = _mm512_dpbf16_ps(a[t][r], row, load_bf16x32_n(x[t] + i, n - i));
    }
  }
  MOE_UNROLL for (int t = 0; t < kTokens; ++t) {
    MOE_UNROLL for (int r = 0; r < kBf16Rows; ++r) acc[t * acc_stride].v[r] = a[t][r];
  }
}

// The sums of four registers' lanes: lane i + lane i + 8, then + 4, + 2, + 1, for all four at once.
inline __m128 sum4(const __m512* a) {
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a[0], a[1], 0x44), _mm512_shuffle_f32x4(a[0], a[1], 0xee));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(a[2], a[3], 0x44), _mm512_shuffle_f32x4(a[2], a[3], 0xee));
  const __m512 x4 = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  const __m512 x2 = _mm512_add_ps(x4, _mm512_permute_ps(x4, 0x4e));
  const __m512 x1 = _mm512_add_ps(x2, _mm512_permute_ps(x2, 0xb1));
  const __m512i firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  return _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, x1));
}

// The part of a call that one set of accumulators serves: rows r .. r + n, tokens t .. t + m.
struct Bf16Part {
  int64_t r;
  int n;
  int64_t t;
  int m;
};

constexpr int kBf16Tiles = kBf16PartRows / kBf16Rows;  // a token's accumulators

// w: (n_pointers) rows from r on, of which the part has n. Those beyond the last repeat it and are not stored.
inline void point_rows(const DotArgs& args, int64_t r, int n, int n_pointers, const uint16_t** w) {
  for (int i = 0; i < n_pointers; ++i) {
    const size_t offset = static_cast<size_t>(r + (i < n ? i : n - 1)) * args.w_stride;
    w[i] = reinterpret_cast<const uint16_t*>(static_cast<const uint8_t*>(args.w) + offset);
  }
}

inline void store_tile_sums(const DotArgs& args, int64_t t, int64_t r, int n, const Bf16Acc& acc) {
  _mm_mask_storeu_ps(args.y[t] + r, static_cast<__mmask8>((1 << n) - 1), sum4(acc.v));
}

inline void clear(Bf16Acc* acc, int n) {
  for (int i = 0; i < n; ++i) {
    for (__m512& v : acc[i].v) v = _mm512_setzero_ps();
  }
}

// Elements k .. k + depth of a part.
inline void bf16_piece(const DotArgs& args, const Bf16Part& part, int64_t k, int64_t depth, Bf16Acc* acc) {
  const uint16_t* x[kBf16PartTokens];
  for (int i = 0; i < part.m; ++i) x[i] = static_cast<const uint16_t*>(args.x[part.t + i]) + k;
  const uint16_t* w[kBf16PartRows];
  point_rows(args, part.r, part.n, kBf16PartRows, w);
  for (const uint16_t*& row : w) row += k;
  for (int t = 0; t < part.m; t += kBf16Tokens) {
    const int left = part.m - t;
    with_constant<kBf16Tokens>(left < kBf16Tokens ? left : kBf16Tokens, [&]<int kTokens>() {
      for (int r = 0; r < part.n; r += kBf16Rows) {
        bf16_tile<kTokens, false>(w + r, x + t, depth, acc + t * kBf16Tiles + r / kBf16Rows, kBf16Tiles, nullptr);
      }
    });
  }
}

inline void bf16_part(const DotArgs& args, const Bf16Part& part) {
  Bf16Acc acc[kBf16PartTokens * kBf16Tiles];
  clear(acc, part.m * kBf16Tiles);
  for (int64_t k = 0; k < args.n_in; k += kBf16Depth) {
    bf16_piece(args, part, k, kBf16Depth < args.n_in - k ? kBf16Depth : args.n_in - k, acc);
  }
  for (int t = 0; t < part.m; ++t) {
    for (int r = 0; r < part.n; r += kBf16Rows) {
      const int n = part.n - r < kBf16Rows ? part.n - r : kBf16Rows;
      store_tile_sums(args, part.t + t, part.r + r, n, acc[t * kBf16Tiles + r / kBf16Rows]);
    }
  }
}

// Few tokens come at the speed of memory, which likes whole rows.
template <int kTokens>
inline void bf16_stream(const DotArgs& args) {
  const uint16_t* x[kTokens];
  for (int t = 0; t < kTokens; ++t) x[t] = static_cast<const uint16_t*>(args.x[t]);
  for (int64_t r = 0; r < args.n_rows; r += kBf16Rows) {
    const int n = static_cast<int>(args.n_rows - r < kBf16Rows ? args.n_rows - r : kBf16Rows);
    const uint16_t* w[kBf16Rows];
    point_rows(args, r, n, kBf16Rows, w);
    Bf16Acc acc[kTokens];
    clear(acc, kTokens);
    const uint8_t* ahead = reinterpret_cast<const uint8_t*>(w[0]) + kBf16Rows * args.w_stride;
    bf16_tile<kTokens, true>(w, x, args.n_in, acc, 1, ahead);
    for (int t = 0; t < kTokens; ++t) store_tile_sums(args, t, r, n, acc[t]);
  }
}

inline void dot_bf16_bf16(const DotArgs& args) {
  if (args.n_tokens <= 0) return;
  if (args.n_tokens <= kBf16Tokens) {
    return with_constant<kBf16Tokens>(static_cast<int>(args.n_tokens), [&]<int kTokens>() { bf16_stream<kTokens>(args); });
  }
  for (int64_t t = 0; t < args.n_tokens; t += kBf16PartTokens) {
    const int m = static_cast<int>(args.n_tokens - t < kBf16PartTokens ? args.n_tokens - t : kBf16PartTokens);
    for (int64_t r = 0; r < args.n_rows; r += kBf16PartRows) {
      const int n = static_cast<int>(args.n_rows - r < kBf16PartRows ? args.n_rows - r : kBf16PartRows);
      bf16_part(args, {r, n, t, m});
    }
  }
}

}  // namespace
}  // namespace moe::cpu

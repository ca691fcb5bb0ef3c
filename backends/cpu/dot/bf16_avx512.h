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

// acc[t][r] += w[r] · x[t] over n elements; acc: (kTokens) of stride acc_stride
template <int kTokens>
inline void bf16_tile(const uint16_t* const* w, const uint16_t* const* x, int64_t n, Bf16Acc* acc, int acc_stride) {
  __m512 a[kTokens][kBf16Rows];
  MOE_UNROLL for (int t = 0; t < kTokens; ++t) {
    MOE_UNROLL for (int r = 0; r < kBf16Rows; ++r) a[t][r] = acc[t * acc_stride].v[r];
  }
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
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

// Elements k .. k + depth of a part. Rows beyond the last repeat it and are not stored.
inline void bf16_piece(const DotArgs& args, const Bf16Part& part, int64_t k, int64_t depth, Bf16Acc* acc) {
  const uint16_t* x[kBf16PartTokens];
  for (int i = 0; i < part.m; ++i) x[i] = static_cast<const uint16_t*>(args.x[part.t + i]) + k;
  const uint16_t* w[kBf16PartRows];
  for (int i = 0; i < kBf16PartRows; ++i) {
    const int64_t row = part.r + (i < part.n ? i : part.n - 1);
    w[i] =
        reinterpret_cast<const uint16_t*>(static_cast<const uint8_t*>(args.w) + static_cast<size_t>(row) * args.w_stride) + k;
  }
  for (int t = 0; t < part.m;) {
    const int left = part.m - t, n_tokens = left >= kBf16Tokens ? kBf16Tokens : left >= 2 ? 2 : 1;
    const auto tile = n_tokens == kBf16Tokens ? bf16_tile<kBf16Tokens> : n_tokens == 2 ? bf16_tile<2> : bf16_tile<1>;
    for (int r = 0; r < part.n; r += kBf16Rows) tile(w + r, x + t, depth, acc + t * kBf16Tiles + r / kBf16Rows, kBf16Tiles);
    t += n_tokens;
  }
}

inline void bf16_part(const DotArgs& args, const Bf16Part& part) {
  Bf16Acc acc[kBf16PartTokens * kBf16Tiles];
  for (int i = 0; i < part.m * kBf16Tiles; ++i) {
    for (__m512& v : acc[i].v) v = _mm512_setzero_ps();
  }
  // Few tokens come at the speed of memory, which likes whole rows.
  const int64_t depth = part.m > kBf16Tokens ? kBf16Depth : args.n_in;
  for (int64_t k = 0; k < args.n_in; k += depth) bf16_piece(args, part, k, depth < args.n_in - k ? depth : args.n_in - k, acc);
  for (int t = 0; t < part.m; ++t) {
    for (int r = 0; r < part.n; r += kBf16Rows) {
      const int n = part.n - r < kBf16Rows ? part.n - r : kBf16Rows;
      const __m128 sums = sum4(acc[t * kBf16Tiles + r / kBf16Rows].v);
      _mm_mask_storeu_ps(args.y[part.t + t] + part.r + r, static_cast<__mmask8>((1 << n) - 1), sums);
    }
  }
}

inline void dot_bf16_bf16(const DotArgs& args) {
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

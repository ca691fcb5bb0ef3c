// Integer dot products with AVX2: panels of 8 rows. See dot/a8.inl.
//
// VPMADDUBSW multiplies unsigned by signed bytes and adds pairs in int16, saturating. It never does here:
//   formats with bytes up to kMax   as many pair sums are added in int16 as fit: n · 2 · 127 · kMax ≤ 32767
//   int8 weights                    |w| · (x with the sign of w), 2 · 128 · 127 = 32512 at most, also for w = −128
#pragma once

#include "backends/cpu/vec/avx2.h"

#define MOE_TILE

namespace moe::cpu {
namespace {

constexpr int kPanelRows = 8;
constexpr int kPanelVecs = 8;
constexpr bool kQuadWords = false;
constexpr bool kSpreadReads = true;
constexpr int kTilePanels = 1;
constexpr int kTileTokens = 4;
template <class Format>
using PanelBytes = U8x32;

struct I32 {
  __m256i v;
};
inline F32 to_f32(I32 a) { return {_mm256_cvtepi32_ps(a.v)}; }
inline I32 load_dwords(const uint32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
inline I32 load_words(const uint16_t* p) {
  return {_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline I32 field(I32 a, int shift, int width) {
  return {_mm256_and_si256(_mm256_srli_epi32(a.v, shift), _mm256_set1_epi32((1 << width) - 1))};
}
inline I32 join(I32 low, I32 high, int shift) { return {_mm256_or_si256(low.v, _mm256_slli_epi32(high.v, shift))}; }
inline F32 half_of(I32 a, int k) {
  const __m256i halves = k == 0 ? _mm256_and_si256(a.v, _mm256_set1_epi32(0xffff)) : _mm256_srli_epi32(a.v, 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0xd8);
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(packed))};
}
inline I32 signed_byte(I32 a, int k) { return {_mm256_srai_epi32(_mm256_slli_epi32(a.v, 24 - 8 * k), 24)}; }

// 8 rows of 4 dwords → 4 registers of 8 rows
inline void interleave_headers(const uint8_t* const* rows, I32* out) {
  __m256i v[4];
  unroll<4>([&](auto i) MOE_INLINE {
    v[i] = _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(rows[4 + i]), reinterpret_cast<const __m128i*>(rows[i]));
  });
  const __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpackhi_epi32(v[0], v[1]);
  const __m256i c = _mm256_unpacklo_epi32(v[2], v[3]), d = _mm256_unpackhi_epi32(v[2], v[3]);
  out[0].v = _mm256_unpacklo_epi64(a, c);
  out[1].v = _mm256_unpackhi_epi64(a, c);
  out[2].v = _mm256_unpacklo_epi64(b, d);
  out[3].v = _mm256_unpackhi_epi64(b, d);
}

// 8 rows of 8 dwords → 8 registers of 8 rows: 4x4 transposes inside 128-bit halves, then the halves are sorted.
MOE_INLINE inline void interleave_rows(const Bytes32* rows, void* out) {
  __m256i mixed[8];
  for (int i = 0; i < 8; i += 4) {
    const __m256i a = _mm256_unpacklo_epi32(rows[i].v, rows[i + 1].v);
    const __m256i b = _mm256_unpackhi_epi32(rows[i].v, rows[i + 1].v);
    const __m256i c = _mm256_unpacklo_epi32(rows[i + 2].v, rows[i + 3].v);
    const __m256i d = _mm256_unpackhi_epi32(rows[i + 2].v, rows[i + 3].v);
    mixed[i] = _mm256_unpacklo_epi64(a, c);
    mixed[i + 1] = _mm256_unpackhi_epi64(a, c);
    mixed[i + 2] = _mm256_unpacklo_epi64(b, d);
    mixed[i + 3] = _mm256_unpackhi_epi64(b, d);
  }
  auto* vectors = static_cast<__m256i*>(out);
  for (int k = 0; k < 4; ++k) {
    _mm256_storeu_si256(vectors + k, _mm256_permute2x128_si256(mixed[k], mixed[4 + k], 0x20));
    _mm256_storeu_si256(vectors + 4 + k, _mm256_permute2x128_si256(mixed[k], mixed[4 + k], 0x31));
  }
}

inline __m256i broadcast_dword(const void* p) {
  int32_t dword;
  std::memcpy(&dword, p, 4);
  return _mm256_set1_epi32(dword);
}

// The sum of the activations that dwords kFirst .. kFirst + kCount of a group cover, in every lane.
template <int kFirst, int kCount>
inline __m256i splat_sum(const BlockA8& x) {
  return broadcast_dword(kCount == 8 ? &x.sum : &x.half[kFirst / 4]);
}

template <int kFactor>
inline __m256i times_power_of_two(__m256i a) {
  static_assert((kFactor & (kFactor - 1)) == 0);
  return _mm256_slli_epi32(a, __builtin_ctz(kFactor));
}

template <int kFirst, int kCount, int kPanels, int kTokens>
MOE_INLINE inline void dot_signed(const uint8_t* const* panels, const BlockA8* const* x, I32* out) {
  const __m256i ones = _mm256_set1_epi16(1);
  unroll<kCount>([&](auto dword) MOE_INLINE {
    constexpr int i = kFirst + dword;
    __m256i w[kPanels], magnitude[kPanels];
    unroll<kPanels>([&](auto p) MOE_INLINE {
      w[p] = _mm256_load_si256(reinterpret_cast<const __m256i*>(panels[p] + 32 * i));
      magnitude[p] = _mm256_abs_epi8(w[p]);
    });
    unroll<kTokens>([&](auto t) MOE_INLINE {
      const __m256i xs = broadcast_dword(x[t]->q + 4 * i);
      unroll<kPanels>([&](auto p) MOE_INLINE {
        const __m256i products = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude[p], _mm256_sign_epi8(xs, w[p])), ones);
        __m256i& sum = out[t * kPanels + p].v;
        sum = i == kFirst ? products : _mm256_add_epi32(sum, products);
      });
    });
  });
}

template <class Format, int kFirst, int kCount, int kPanels, int kTokens>
MOE_INLINE inline void dot_unsigned(const uint8_t* const* panels, const BlockA8* const* x, I32* out) {
  constexpr int kFit = 32767 / (2 * 127 * Format::kMax);
  constexpr int kRun = kFit >= 8 ? 8 : kFit >= 4 ? 4 : kFit >= 2 ? 2 : 1;
  constexpr int kStep = kRun < kCount ? kRun : kCount;
  const __m256i ones = _mm256_set1_epi16(1);
  unroll<kCount / kStep>([&](auto run) MOE_INLINE {
    __m256i pairs[kPanels * kTokens];
    unroll<kStep>([&](auto dword) MOE_INLINE {
      constexpr int i = kFirst + run * kStep + dword;
      __m256i w[kPanels];
      unroll<kPanels>([&](auto p)
                          MOE_INLINE { w[p] = _mm256_load_si256(reinterpret_cast<const __m256i*>(panels[p] + 32 * i)); });
      unroll<kTokens>([&](auto t) MOE_INLINE {
        const __m256i xs = broadcast_dword(x[t]->q + 4 * i);
        unroll<kPanels>([&](auto p) MOE_INLINE {
          const __m256i products = _mm256_maddubs_epi16(w[p], xs);
          __m256i& sum = pairs[t * kPanels + p];
          sum = dword == 0 ? products : _mm256_add_epi16(sum, products);
        });
      });
    });
    unroll<kPanels * kTokens>([&](auto k) MOE_INLINE {
      const __m256i sums = _mm256_madd_epi16(pairs[k], ones);
      out[k].v = run == 0 ? sums : _mm256_add_epi32(out[k].v, sums);
    });
  });
  if constexpr (Format::kOffset != 0) {
    unroll<kTokens>([&](auto t) MOE_INLINE {
      const __m256i excess = times_power_of_two<Format::kOffset>(splat_sum<kFirst, kCount>(*x[t]));
      unroll<kPanels>([&](auto p) MOE_INLINE { out[t * kPanels + p].v = _mm256_sub_epi32(out[t * kPanels + p].v, excess); });
    });
  }
}

template <class Format, int kFirst, int kCount, int kPanels, int kTokens>
MOE_INLINE inline void dot_dwords(const uint8_t* const* panels, const BlockA8* const* x, I32* out) {
  if constexpr (Format::kSigned) {
    dot_signed<kFirst, kCount, kPanels, kTokens>(panels, x, out);
  } else {
    dot_unsigned<Format, kFirst, kCount, kPanels, kTokens>(panels, x, out);
  }
}

template <int kFirst, int kCount>
inline F32 activation_sum(const BlockA8& x) {
  return to_f32({splat_sum<kFirst, kCount>(x)});
}

}  // namespace
}  // namespace moe::cpu

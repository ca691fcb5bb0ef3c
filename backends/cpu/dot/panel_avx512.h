// Integer dot products with AVX-512 VNNI: panels of 16 rows. See dot/a8.inl.
//
// VPDPBUSD multiplies unsigned by signed bytes, four products a lane. Weights are the unsigned side: bytes of a format with an
// offset go in as they are and the offset times the sum of the activations is taken off; int8 weights are moved up by 128
// (one XOR) and corrected in the same way.
#pragma once

#include "backends/cpu/vec/avx512.h"

namespace moe::cpu {
namespace {

constexpr int kPanelRows = 16;
constexpr int kPanelVecs = 8;
constexpr int kTilePanels = 2;
constexpr int kTileTokens = 6;
template <class Format>
using PanelBytes = U8x64;

struct I32 {
  __m512i v;
};
inline F32 to_f32(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline I32 load_dwords(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
inline I32 field(I32 a, unsigned shift, int width) {
  return {_mm512_and_si512(_mm512_srli_epi32(a.v, shift), _mm512_set1_epi32((1 << width) - 1))};
}
inline I32 join(I32 low, I32 high, unsigned shift) { return {_mm512_or_si512(low.v, _mm512_slli_epi32(high.v, shift))}; }
inline F32 half_of(I32 a, unsigned k) { return {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(a.v, 16 * k)))}; }
inline I32 signed_byte(I32 a, unsigned k) { return {_mm512_srai_epi32(_mm512_slli_epi32(a.v, 24 - 8 * k), 24)}; }

// 16 rows of 4 dwords → 4 registers of 16 rows: lane i of a register begins as a row of every fourth, 4x4 transposes inside
// lanes then put them in order.
inline void interleave_headers(const uint8_t* const* rows, I32* out) {
  __m512i v[4];
  unroll<4>([&](auto i) MOE_INLINE {
    const auto row = [&](int r) MOE_INLINE { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r])); };
    v[i] = _mm512_castsi128_si512(row(i));
    v[i] = _mm512_inserti32x4(v[i], row(4 + i), 1);
    v[i] = _mm512_inserti32x4(v[i], row(8 + i), 2);
    v[i] = _mm512_inserti32x4(v[i], row(12 + i), 3);
  });
  const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
  const __m512i c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
  out[0].v = _mm512_unpacklo_epi64(a, c);
  out[1].v = _mm512_unpackhi_epi64(a, c);
  out[2].v = _mm512_unpacklo_epi64(b, d);
  out[3].v = _mm512_unpackhi_epi64(b, d);
}

// 16 rows of 8 dwords → 8 registers of 16 rows. Two stages make 4x4 transposes inside 128-bit lanes; lane 0 and 1 of a register
// begin as one row's dwords 0..3 and 4..7, lane 2 and 3 as those of the row four further, so the last stage picks whole lanes.
MOE_INLINE inline void interleave_rows(const Bytes32* rows, void* out) {
  __m512i pair[8], mixed[8];
  for (int i = 0; i < 8; ++i) {
    const int r = i / 4 * 8 + i % 4;
    pair[i] = _mm512_inserti64x4(_mm512_castsi256_si512(rows[r].v), rows[r + 4].v, 1);
  }
  for (int i = 0; i < 8; i += 4) {
    const __m512i a = _mm512_unpacklo_epi32(pair[i], pair[i + 1]);
    const __m512i b = _mm512_unpackhi_epi32(pair[i], pair[i + 1]);
    const __m512i c = _mm512_unpacklo_epi32(pair[i + 2], pair[i + 3]);
    const __m512i d = _mm512_unpackhi_epi32(pair[i + 2], pair[i + 3]);
    mixed[i] = _mm512_unpacklo_epi64(a, c);
    mixed[i + 1] = _mm512_unpackhi_epi64(a, c);
    mixed[i + 2] = _mm512_unpacklo_epi64(b, d);
    mixed[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
  auto* vectors = static_cast<__m512i*>(out);
  for (int k = 0; k < 4; ++k) {
    _mm512_storeu_si512(vectors + k, _mm512_shuffle_i32x4(mixed[k], mixed[4 + k], 0x88));
    _mm512_storeu_si512(vectors + 4 + k, _mm512_shuffle_i32x4(mixed[k], mixed[4 + k], 0xdd));
  }
}

inline __m512i broadcast_dword(const void* p) {
  int32_t dword;
  std::memcpy(&dword, p, 4);
  return _mm512_set1_epi32(dword);
}

// The sum of the activations that dwords kFirst .. kFirst + kCount of a group cover, in every lane.
template <int kFirst, int kCount>
inline __m512i splat_sum(const BlockA8& x) {
  return broadcast_dword(kCount == 8 ? &x.sum : &x.half[kFirst / 4]);
}

template <class Format, int kFirst, int kCount, int kPanels, int kTokens>
MOE_INLINE inline void dot_dwords(const uint8_t* const* panels, const BlockA8* const* x, I32* out) {
  constexpr int kOffset = Format::kSigned ? 128 : Format::kOffset;
  unroll<kPanels * kTokens>([&](auto k) MOE_INLINE { out[k].v = _mm512_setzero_si512(); });
  unroll<kCount>([&](auto dword) MOE_INLINE {
    constexpr int i = kFirst + dword;
    __m512i w[kPanels];
    unroll<kPanels>([&](auto p) MOE_INLINE {
      w[p] = _mm512_load_si512(panels[p] + 64 * i);
      if constexpr (Format::kSigned) w[p] = _mm512_xor_si512(w[p], _mm512_set1_epi8(-128));
    });
    unroll<kTokens>([&](auto t) MOE_INLINE {
      const __m512i xs = broadcast_dword(x[t]->q + 4 * i);
      unroll<kPanels>([&](auto p)
                          MOE_INLINE { out[t * kPanels + p].v = _mm512_dpbusd_epi32(out[t * kPanels + p].v, w[p], xs); });
    });
  });
  if constexpr (kOffset != 0) {
    static_assert((kOffset & (kOffset - 1)) == 0);
    unroll<kTokens>([&](auto t) MOE_INLINE {
      const __m512i excess = _mm512_slli_epi32(splat_sum<kFirst, kCount>(*x[t]), __builtin_ctz(kOffset));
      unroll<kPanels>([&](auto p) MOE_INLINE { out[t * kPanels + p].v = _mm512_sub_epi32(out[t * kPanels + p].v, excess); });
    });
  }
}

template <int kFirst, int kCount>
inline F32 activation_sum(const BlockA8& x) {
  return to_f32({splat_sum<kFirst, kCount>(x)});
}

}  // namespace
}  // namespace moe::cpu

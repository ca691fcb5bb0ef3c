// Integer dot products with AVX-512 VNNI: panels of 16 rows. See dot/a8.inl.
//
// VPDPBUSD multiplies unsigned by signed bytes, four products a lane. Weights are the unsigned side: bytes of a format with an
// offset go in as they are and the offset times the sum of the activations is taken off; int8 weights are moved up by 128
// (one XOR) and corrected in the same way.
#pragma once

#include "backends/cpu/vec/avx512.h"

#define MOE_TILE

namespace moe::cpu {
namespace {

constexpr int kPanelRows = 16;
constexpr int kPanelVecs = 8;
constexpr bool kQuadWords = true;  // has stage_quad_words
constexpr bool kSpreadReads = true;
constexpr int kTilePanels = 2;
constexpr int kTileTokens = 6;
template <class Format>
using PanelBytes = U8x64;

struct I32 {
  __m512i v;
};
inline F32 to_f32(I32 a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline I32 load_dwords(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
inline I32 load_words(const uint16_t* p) {
  return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
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

// Where scale number kIndex of a block lies behind the first block.
template <class F, int kIndex>
constexpr int scale_at(int block) {
  return block * static_cast<int>(sizeof(typename F::Block)) + kIndex * F::kScaleBytes;
}

// Scale number kIndex of the 8 blocks of a chunk as it is stored, of four rows: (4, 8). A register of a row's bytes has those
// of 4 or of 2 blocks.
template <class F, int kIndex>
inline void stage_quad_words(const typename F::Block* const* rows, uint16_t* out) {
  constexpr int kStride = sizeof(typename F::Block), kBlocks = 3 * kStride + 4 <= 64 ? 4 : 2;
  __m512i words[4];  // of each row, the same in all lanes
  unroll<8 / kBlocks>([&](auto i) MOE_INLINE {
    constexpr int kFirst = i * kBlocks, kBegin = kFirst * kStride < 8 * kStride - 64 ? kFirst * kStride : 8 * kStride - 64;
    constexpr __mmask32 kMask = ((1u << kBlocks) - 1) * 0x01010101u << kFirst;
    static_assert(kBegin % 2 == 0);
    const auto word = [&](int block)
                          MOE_INLINE { return (scale_at<F, kIndex>(block) - kBegin) / 2 & 31; };  // of other blocks: masked
    const __m512i index =
        _mm512_broadcast_i32x4(_mm_setr_epi16(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7)));
    unroll<4>([&](auto row) MOE_INLINE {
      const __m512i bytes = _mm512_loadu_si512(reinterpret_cast<const uint8_t*>(rows[row]) + kBegin);
      words[row] =
          i == 0 ? _mm512_permutexvar_epi16(index, bytes) : _mm512_mask_permutexvar_epi16(words[row], kMask, index, bytes);
    });
  });
  const __m512i low = _mm512_mask_blend_epi32(0xf0f0, words[0], words[1]);
  const __m512i high = _mm512_mask_blend_epi32(0xf0f0, words[2], words[3]);
  __m512i all = _mm512_mask_blend_epi32(0xff00, low, high);
  if constexpr (F::kScaleBytes == 1) {  // the upper byte of the word where the block begins at an odd address
    constexpr auto kShift = [](int block) { return scale_at<F, kIndex>(block) % 2 * 8; };
    const __m512i shifts = _mm512_broadcast_i32x4(
        _mm_setr_epi16(kShift(0), kShift(1), kShift(2), kShift(3), kShift(4), kShift(5), kShift(6), kShift(7)));
    all = _mm512_and_si512(_mm512_srlv_epi16(all, shifts), _mm512_set1_epi16(0xff));
  }
  _mm512_store_si512(out, all);
}

// (4 quads, 4 rows, 8) → (8, rows), row l of quad q becoming row 4 l + q
inline void order_quad_words(uint16_t* words) {
  __m512i v[4];
  for (int q = 0; q < 4; ++q) v[q] = _mm512_load_si512(words + 32 * q);
  const __m512i a = _mm512_unpacklo_epi16(v[0], v[1]), b = _mm512_unpackhi_epi16(v[0], v[1]);
  const __m512i c = _mm512_unpacklo_epi16(v[2], v[3]), d = _mm512_unpackhi_epi16(v[2], v[3]);
  const __m512i pairs[4] = {_mm512_unpacklo_epi32(a, c), _mm512_unpackhi_epi32(a, c), _mm512_unpacklo_epi32(b, d),
                            _mm512_unpackhi_epi32(b, d)};  // in each lane, of two blocks: four quads' words
  const __m512i blocks = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  for (int i = 0; i < 4; ++i) _mm512_store_si512(words + 32 * i, _mm512_permutexvar_epi64(blocks, pairs[i]));
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

// What the kernels know of each block format, written once for all instruction sets. A row is taken in chunks of 256 elements:
// one K-quant block, or up to 8 blocks of 32.
//
//   kRaws          32-byte pieces of packed bits in a chunk; raw(b, i, n_blocks) fetches piece i of one row
//   kBitsAt        where all pieces of a K-quant lie, one behind the other
//   unpack         turns pieces into one byte an element by steps that treat all bytes alike. So it does not care whether the
//                  bytes lie row after row or interleaved from many rows: `V` registers hold one piece (or 32 elements) of all.
//   scales         scale and bias of each kGroup elements, as floats:  w = scale · (byte − kOffset) + bias
//   panel_scales   the same for the kPanelRows rows of a panel, (groups, rows): what rows say about their scales is laid side
//                  by side, then bits are taken out of all rows at once
//   kScales        numbers of kScaleBytes that a block of 32 begins with, its scale (and bias); scale_of makes floats of them
//   kMax           the largest byte; kSigned bytes are int8 and have no offset; an offset is a power of two
//
// What a short last chunk lacks repeats its first block, with scales of 0, and is not used.
#pragma once

#include <cstddef>

#include "tensor/formats/formats.h"

#define MOE_UNROLL _Pragma("GCC unroll 8")

namespace moe::cpu {
namespace {

constexpr int kChunk = 256;

template <class Word>
inline Word load_word(const void* p) {
  Word word;
  std::memcpy(&word, p, sizeof word);
  return word;
}
inline uint64_t join_words(uint32_t low, uint32_t high) { return low | static_cast<uint64_t>(high) << 32; }

template <class Block>
inline Bytes32 nibble_pair(const Block* b, int i, int n_blocks) {
  return load16x2(b[2 * i].qs, b[2 * i + 1 < n_blocks ? 2 * i + 1 : 2 * i].qs);
}

// Blocks of 16 bytes with kGap between them: the low nibbles are elements 0..15, the high ones 16..31.
template <class B, int V, int kGap, class Fn>
inline void unpack_nibble_pairs(const uint8_t* raw, uint8_t* out, Fn finish) {
  constexpr int kBytes = sizeof(B);
  for (int half = 0; half < kChunk / 32; ++half) {
    MOE_UNROLL for (int v = 0; v < V / 2; ++v) {
      const B x = load_bytes(raw + (half * (V / 2) + v) * kBytes + half * kGap, B{});
      store_bytes(out + (half * V + v) * kBytes, finish(bits(x, 0, 4)));
      store_bytes(out + (half * V + V / 2 + v) * kBytes, finish(bits(x, 4, 4)));
    }
  }
}

// Scale number kIndex of a block of 32 as it is stored.
template <class F, int kIndex>
inline uint16_t scale_word(const typename F::Block* b) {
  const auto* p = reinterpret_cast<const uint8_t*>(b) + kIndex * F::kScaleBytes;
  if constexpr (F::kScaleBytes == 1) return *p;
  return load_word<uint16_t>(p);
}

constexpr int kWordsOfPanel = kChunk / 32 * kPanelRows;

// A quad is every fourth row of a panel: row l of quad q is lane 4 l + q. stage_words takes scale number kIndex (0: scale, 1:
// bias) as it stands in the 8 blocks of a quad's rows, order_words makes (8, kPanelRows) of what four quads left.
template <class F, int kIndex>
inline void stage_words(const typename F::Block* const* quad, int q, uint16_t* words) {
  if constexpr (kQuadWords) {
    stage_quad_words<F, kIndex>(quad, words + q * (kWordsOfPanel / 4));
  } else {
    for (int l = 0; l < kPanelRows / 4; ++l) {
      for (int i = 0; i < kChunk / 32; ++i) words[i * kPanelRows + 4 * l + q] = scale_word<F, kIndex>(quad[l] + i);
    }
  }
}
template <class Word>
inline void order_words(Word* words) {
  if constexpr (kQuadWords) order_quad_words(words);
}

// out (n_blocks, kPanelRows)
template <class F, int kIndex>
inline void panel_words(const typename F::Block* const* rows, int n_blocks, float* out) {
  alignas(64) uint16_t words[kWordsOfPanel];
  if (kQuadWords && n_blocks == kChunk / 32) {
    for (int q = 0; q < 4; ++q) {
      const typename F::Block* quad[(kPanelRows + 3) / 4];
      for (int r = q; r < kPanelRows; r += 4) quad[r / 4] = rows[r];
      stage_words<F, kIndex>(quad, q, words);
    }
    order_words(words);
  } else {
    for (int r = 0; r < kPanelRows; ++r) {
      for (int i = 0; i < n_blocks; ++i) words[i * kPanelRows + r] = scale_word<F, kIndex>(rows[r] + i);
    }
  }
  for (int i = 0; i < n_blocks; ++i) store(out + i * kPanelRows, F::scale_of(words + i * kPanelRows));
}

template <class Block>
inline F32 panel_half(const Block* const* rows, uint16_t Block::*half) {
  alignas(64) uint16_t halves[kPanelRows];
  for (int r = 0; r < kPanelRows; ++r) halves[r] = rows[r]->*half;
  return load_f16(halves);
}

// The 16 bytes at `offset` in each row's block.
template <class Block>
inline void panel_headers(const Block* const* rows, size_t offset, I32* out) {
  const uint8_t* headers[kPanelRows];
  for (int r = 0; r < kPanelRows; ++r) headers[r] = reinterpret_cast<const uint8_t*>(rows[r]) + offset;
  interleave_headers(headers, out);
}

template <class Block>
inline void half_scales(const Block* b, int n_blocks, float* scale) {
  for (int i = 0; i < 8; ++i) scale[i] = i < n_blocks ? half_to_float(b[i].d) : 0.0f;
}
template <class Block>
inline void half_offsets(const Block* b, int n_blocks, float* bias) {
  for (int i = 0; i < 8; ++i) bias[i] = i < n_blocks ? half_to_float(b[i].m) : 0.0f;
}

struct LegacyFormat {
  static constexpr int kBlock = 32, kGroup = 32, kRaws = 4, kOffset = 0, kMax = 15, kScales = 1, kScaleBytes = 2;
  static constexpr bool kSigned = false, kBias = false;
  static F32 scale_of(const uint16_t* words) { return load_f16(words); }
};

struct Q8_0 : LegacyFormat {
  using Block = BlockQ8_0;
  static constexpr int kRaws = 8, kMax = 128;
  static constexpr bool kSigned = true;
  static Bytes32 raw(const Block* b, int i, int n_blocks) { return load32(b[i < n_blocks ? i : 0].qs); }
  static void scales(const Block* b, int n, float* scale, float*) { half_scales(b, n, scale); }
  static void panel_scales(const Block* const* rows, int n, float* scale, float*) { panel_words<Q8_0, 0>(rows, n, scale); }
};

struct Q4_0 : LegacyFormat {
  using Block = BlockQ4_0;
  static constexpr int kOffset = 8;
  static Bytes32 raw(const Block* b, int i, int n_blocks) { return nibble_pair(b, 2 * i < n_blocks ? i : 0, n_blocks); }
  template <class B, int V, int kGap = 0>
  static void unpack(const uint8_t* raw, uint8_t* out) {
    unpack_nibble_pairs<B, V, kGap>(raw, out, [](B x) { return x; });
  }
  static void scales(const Block* b, int n, float* scale, float*) { half_scales(b, n, scale); }
  static void panel_scales(const Block* const* rows, int n, float* scale, float*) { panel_words<Q4_0, 0>(rows, n, scale); }
};

struct Q4_1 : LegacyFormat {
  using Block = BlockQ4_1;
  static constexpr int kScales = 2;
  static constexpr bool kBias = true;
  static Bytes32 raw(const Block* b, int i, int n_blocks) { return nibble_pair(b, 2 * i < n_blocks ? i : 0, n_blocks); }
  template <class B, int V, int kGap = 0>
  static void unpack(const uint8_t* raw, uint8_t* out) {
    unpack_nibble_pairs<B, V, kGap>(raw, out, [](B x) { return x; });
  }
  static void scales(const Block* b, int n, float* scale, float* bias) {
    half_scales(b, n, scale);
    half_offsets(b, n, bias);
  }
  static void panel_scales(const Block* const* rows, int n, float* scale, float* bias) {
    panel_words<Q4_1, 0>(rows, n, scale);
    panel_words<Q4_1, 1>(rows, n, bias);
  }
};

struct Q5_0 : LegacyFormat {
  using Block = BlockQ5_0;
  static constexpr int kRaws = 8, kOffset = 16, kMax = 31;
  static Bytes32 raw(const Block* b, int i, int n_blocks) {
    const Block& block = b[i < n_blocks ? i : 0];
    return five_bits(block.qs, q5_high_bits(block.qh));
  }
  static void scales(const Block* b, int n, float* scale, float*) { half_scales(b, n, scale); }
  static void panel_scales(const Block* const* rows, int n, float* scale, float*) { panel_words<Q5_0, 0>(rows, n, scale); }
};

struct Q5_1 : LegacyFormat {
  using Block = BlockQ5_1;
  static constexpr int kRaws = 8, kMax = 31, kScales = 2;
  static constexpr bool kBias = true;
  static Bytes32 raw(const Block* b, int i, int n_blocks) {
    const Block& block = b[i < n_blocks ? i : 0];
    return five_bits(block.qs, q5_high_bits(block.qh));
  }
  static void scales(const Block* b, int n, float* scale, float* bias) {
    half_scales(b, n, scale);
    half_offsets(b, n, bias);
  }
  static void panel_scales(const Block* const* rows, int n, float* scale, float* bias) {
    panel_words<Q5_1, 0>(rows, n, scale);
    panel_words<Q5_1, 1>(rows, n, bias);
  }
};

struct IQ4_NL : LegacyFormat {
  using Block = BlockIQ4_NL;
  static constexpr int kMax = 127;
  static constexpr bool kSigned = true;
  static Bytes32 raw(const Block* b, int i, int n_blocks) { return nibble_pair(b, 2 * i < n_blocks ? i : 0, n_blocks); }
  template <class B, int V, int kGap = 0>
  static void unpack(const uint8_t* raw, uint8_t* out) {
    int8_t levels[16];
    for (int q = 0; q < 16; ++q) levels[q] = iq4_nl_level(q);
    unpack_nibble_pairs<B, V, kGap>(raw, out, [&](B x) { return lookup(levels, x); });
  }
  static void scales(const Block* b, int n, float* scale, float*) { half_scales(b, n, scale); }
  static void panel_scales(const Block* const* rows, int n, float* scale, float*) { panel_words<IQ4_NL, 0>(rows, n, scale); }
};

struct MXFP4 : LegacyFormat {
  using Block = BlockMXFP4;
  static constexpr int kOffset = 16, kMax = 28, kScaleBytes = 1;
  static Bytes32 raw(const Block* b, int i, int n_blocks) { return nibble_pair(b, 2 * i < n_blocks ? i : 0, n_blocks); }
  template <class B, int V, int kGap = 0>
  static void unpack(const uint8_t* raw, uint8_t* out) {
    int8_t levels[16];
    for (int q = 0; q < 16; ++q) levels[q] = static_cast<int8_t>(mxfp4_level(q) + kOffset);
    unpack_nibble_pairs<B, V, kGap>(raw, out, [&](B x) { return lookup(levels, x); });
  }
  static void scales(const Block* b, int n, float* scale, float*) {
    for (int i = 0; i < 8; ++i) scale[i] = i < n ? mxfp4_scale(b[i].e) : 0.0f;
  }
  static F32 scale_of(const uint16_t* exponents) {  // 2^(e − 128) in two factors, as it may be subnormal
    const I32 e = load_words(exponents);
    const F32 half = to_f32(field(e, 1, 7)), rest = sub(to_f32(e), half);
    return mul(pow2(sub(half, splat(64.0f))), pow2(sub(rest, splat(64.0f))));
  }
  static void panel_scales(const Block* const* rows, int n, float* scale, float*) { panel_words<MXFP4, 0>(rows, n, scale); }
};

struct KFormat {
  static constexpr int kBlock = 256, kGroup = 16, kOffset = 0, kScales = 0;
  static constexpr bool kSigned = false, kBias = false;
};

struct Q2_K : KFormat {
  using Block = BlockQ2_K;
  static constexpr size_t kBitsAt = offsetof(BlockQ2_K, qs);
  static constexpr int kRaws = 2, kMax = 3;
  static constexpr bool kBias = true;
  static Bytes32 raw(const Block* b, int i, int) { return load32(b->qs + 32 * i); }
  template <class B, int V>
  static void unpack(const uint8_t* raw, uint8_t* out) {
    for (int h = 0; h < 2; ++h) {
      for (int v = 0; v < V; ++v) {
        const B x = load_bytes(raw + (h * V + v) * sizeof(B), B{});
        MOE_UNROLL for (int s = 0; s < 4; ++s) store_bytes(out + ((4 * h + s) * V + v) * sizeof(B), bits(x, 2 * s, 2));
      }
    }
  }
  static void scales(const Block* b, int, float* scale, float* bias) {
    const float d = half_to_float(b->d);
    const float dmin = half_to_float(b->dmin);
    constexpr uint64_t kLow = 0x0f0f0f0f0f0f0f0f;
    for (int g = 0; g < 16; g += 8) {
      const auto packed = load_word<uint64_t>(b->scales + g);
      scaled_u8x8(packed & kLow, d, scale + g);
      scaled_u8x8(packed >> 4 & kLow, -dmin, bias + g);
    }
  }
  static void panel_scales(const Block* const* rows, int, float* scale, float* bias) {
    const F32 d = panel_half(rows, &Block::d), dmin = sub(splat(0.0f), panel_half(rows, &Block::dmin));
    I32 words[4];
    panel_headers(rows, offsetof(Block, scales), words);
    MOE_UNROLL for (int g = 0; g < 16; ++g) {
      store(scale + g * kPanelRows, mul(to_f32(field(words[g / 4], g % 4 * 8, 4)), d));
      store(bias + g * kPanelRows, mul(to_f32(field(words[g / 4], g % 4 * 8 + 4, 4)), dmin));
    }
  }
};

struct Q3_K : KFormat {
  using Block = BlockQ3_K;
  static constexpr size_t kBitsAt = offsetof(BlockQ3_K, hmask);
  static constexpr int kRaws = 3, kOffset = 4, kMax = 7;
  static Bytes32 raw(const Block* b, int i, int) { return load32(i == 0 ? b->hmask : b->qs + 32 * (i - 1)); }
  template <class B, int V>
  static void unpack(const uint8_t* raw, uint8_t* out) {
    for (int v = 0; v < V; ++v) {
      const B mask = load_bytes(raw + v * sizeof(B), B{});
      MOE_UNROLL for (int g = 0; g < 8; ++g) {
        const B low = load_bytes(raw + ((1 + g / 4) * V + v) * sizeof(B), B{});
        store_bytes(out + (g * V + v) * sizeof(B), join(bits(low, g % 4 * 2, 2), bits(mask, g, 1), 2));
      }
    }
  }
  // Four scales a word: x | 0x80 keeps the subtraction of 32 from borrowing of the next byte.
  static uint32_t signed_scales(uint32_t low, uint32_t high) {
    const uint32_t x = (low & 0x0f0f0f0fu) | (high & 0x03030303u) << 4;
    return ((x | 0x80808080u) - 0x20202020u) ^ 0x80808080u;
  }
  static void scales(const Block* b, int, float* scale, float*) {
    const float d = half_to_float(b->d);
    const auto low0 = load_word<uint32_t>(b->scales), low1 = load_word<uint32_t>(b->scales + 4);
    const auto high = load_word<uint32_t>(b->scales + 8);
    scaled_s8x8(join_words(signed_scales(low0, high), signed_scales(low1, high >> 2)), d, scale);
    scaled_s8x8(join_words(signed_scales(low0 >> 4, high >> 4), signed_scales(low1 >> 4, high >> 6)), d, scale + 8);
  }
  static void panel_scales(const Block* const* rows, int, float* scale, float*) {
    const F32 d = panel_half(rows, &Block::d);
    I32 words[3];
    MOE_UNROLL for (int k = 0; k < 3; ++k) {
      alignas(64) uint32_t packed[kPanelRows];
      for (int r = 0; r < kPanelRows; ++r) packed[r] = load_word<uint32_t>(rows[r]->scales + 4 * k);
      words[k] = load_dwords(packed);
    }
    MOE_UNROLL for (int g = 0; g < 16; ++g) {
      const I32 low = field(words[g / 4 % 2], g % 4 * 8 + g / 8 * 4, 4), high = field(words[2], g % 4 * 8 + g / 4 * 2, 2);
      store(scale + g * kPanelRows, mul(sub(to_f32(join(low, high, 4)), splat(32.0f)), d));
    }
  }
};

// The 8 scales and 8 mins of Q4_K and Q5_K, four at a time: bytes of a word never carry into each other here.
template <class Block>
inline void scales_and_mins(const Block* b, float* scale, float* bias) {
  const auto a = load_word<uint32_t>(b->scales);
  const auto m = load_word<uint32_t>(b->scales + 4);
  const auto c = load_word<uint32_t>(b->scales + 8);
  const uint32_t high_scales = (c & 0x0f0f0f0fu) | (a >> 6 & 0x03030303u) << 4;
  const uint32_t high_mins = (c >> 4 & 0x0f0f0f0fu) | (m >> 6 & 0x03030303u) << 4;
  scaled_u8x8(join_words(a & 0x3f3f3f3fu, high_scales), half_to_float(b->d), scale);
  scaled_u8x8(join_words(m & 0x3f3f3f3fu, high_mins), -half_to_float(b->dmin), bias);
}

template <class Block>
inline void panel_scales_and_mins(const Block* const* rows, float* scale, float* bias) {
  I32 words[4];
  panel_headers(rows, offsetof(Block, d), words);
  const F32 d = half_of(words[0], 0), dmin = sub(splat(0.0f), half_of(words[0], 1));
  MOE_UNROLL for (int g = 0; g < 4; ++g) {
    const int at = 8 * g;
    const I32 high_scale = join(field(words[3], at, 4), field(words[1], at + 6, 2), 4);
    const I32 high_min = join(field(words[3], at + 4, 4), field(words[2], at + 6, 2), 4);
    store(scale + g * kPanelRows, mul(to_f32(field(words[1], at, 6)), d));
    store(bias + g * kPanelRows, mul(to_f32(field(words[2], at, 6)), dmin));
    store(scale + (4 + g) * kPanelRows, mul(to_f32(high_scale), d));
    store(bias + (4 + g) * kPanelRows, mul(to_f32(high_min), dmin));
  }
}

struct Q4_K : KFormat {
  using Block = BlockQ4_K;
  static constexpr size_t kBitsAt = offsetof(BlockQ4_K, qs);
  static constexpr int kGroup = 32, kRaws = 4, kMax = 15;
  static constexpr bool kBias = true;
  static Bytes32 raw(const Block* b, int i, int) { return load32(b->qs + 32 * i); }
  template <class B, int V>
  static void unpack(const uint8_t* raw, uint8_t* out) {
    for (int p = 0; p < 4; ++p) {
      MOE_UNROLL for (int v = 0; v < V; ++v) {
        const B x = load_bytes(raw + (p * V + v) * sizeof(B), B{});
        store_bytes(out + (2 * p * V + v) * sizeof(B), bits(x, 0, 4));
        store_bytes(out + ((2 * p + 1) * V + v) * sizeof(B), bits(x, 4, 4));
      }
    }
  }
  static void scales(const Block* b, int, float* scale, float* bias) { scales_and_mins(b, scale, bias); }
  static void panel_scales(const Block* const* rows, int, float* scale, float* bias) {
    panel_scales_and_mins(rows, scale, bias);
  }
};

struct Q5_K : KFormat {
  using Block = BlockQ5_K;
  static constexpr size_t kBitsAt = offsetof(BlockQ5_K, qh);
  static constexpr int kGroup = 32, kRaws = 5, kMax = 31;
  static constexpr bool kBias = true;
  static Bytes32 raw(const Block* b, int i, int) { return load32(i == 0 ? b->qh : b->qs + 32 * (i - 1)); }
  template <class B, int V>
  static void unpack(const uint8_t* raw, uint8_t* out) {
    for (int v = 0; v < V; ++v) {
      const B fifth = load_bytes(raw + v * sizeof(B), B{});
      MOE_UNROLL for (int g = 0; g < 8; ++g) {
        const B low = load_bytes(raw + ((1 + g / 2) * V + v) * sizeof(B), B{});
        store_bytes(out + (g * V + v) * sizeof(B), join(bits(low, g % 2 * 4, 4), bits(fifth, g, 1), 4));
      }
    }
  }
  static void scales(const Block* b, int, float* scale, float* bias) { scales_and_mins(b, scale, bias); }
  static void panel_scales(const Block* const* rows, int, float* scale, float* bias) {
    panel_scales_and_mins(rows, scale, bias);
  }
};

struct Q6_K : KFormat {
  using Block = BlockQ6_K;
  static constexpr size_t kBitsAt = offsetof(BlockQ6_K, ql);
  static constexpr int kRaws = 6, kOffset = 32, kMax = 63;
  static Bytes32 raw(const Block* b, int i, int) { return load32(i < 4 ? b->ql + 32 * i : b->qh + 32 * (i - 4)); }
  template <class B, int V>
  static void unpack(const uint8_t* raw, uint8_t* out) {
    for (int h = 0; h < 2; ++h) {
      for (int v = 0; v < V; ++v) {
        const B high = load_bytes(raw + ((4 + h) * V + v) * sizeof(B), B{});
        MOE_UNROLL for (int s = 0; s < 4; ++s) {
          const B low = load_bytes(raw + ((2 * h + s % 2) * V + v) * sizeof(B), B{});
          store_bytes(out + ((4 * h + s) * V + v) * sizeof(B), join(bits(low, s / 2 * 4, 4), bits(high, 2 * s, 2), 4));
        }
      }
    }
  }
  static void scales(const Block* b, int, float* scale, float*) {
    const float d = half_to_float(b->d);
    scaled_s8x8(load_word<uint64_t>(b->scales), d, scale);
    scaled_s8x8(load_word<uint64_t>(b->scales + 8), d, scale + 8);
  }
  static void panel_scales(const Block* const* rows, int, float* scale, float*) {
    const F32 d = panel_half(rows, &Block::d);
    I32 words[4];
    panel_headers(rows, offsetof(Block, scales), words);
    MOE_UNROLL for (int g = 0; g < 16; ++g) store(scale + g * kPanelRows, mul(to_f32(signed_byte(words[g / 4], g % 4)), d));
  }
};

// Formats whose pieces are final bytes already have no unpack.
template <class F>
constexpr bool kPacked = F::kRaws < 8;

// One row's chunk: a byte an element, and what makes numbers of them. Halves of 16 bytes are stored because they are loaded:
// the upper half of a wider store is not forwarded, and a load of it waits for the cache (half the time of a token once).
template <class F>
struct OpenChunk {
  alignas(64) uint8_t bytes[kChunk];
  alignas(64) float scale[kChunk / F::kGroup], bias[kChunk / F::kGroup];

  void open(const typename F::Block* b, int n_blocks) {
    if (n_blocks == kChunk / F::kBlock)  // nearly always; the loops below then are of constant length
      open_blocks(b, kChunk / F::kBlock);
    else
      open_blocks(b, n_blocks);
  }

  // Elements i .. i + kLanes of group g, exactly as decode_<name> gives them.
  F32 at(int g, int i) const {
    const uint8_t* q = bytes + g * F::kGroup + i;
    F32 x = F::kSigned ? load_s8(reinterpret_cast<const int8_t*>(q)) : load_u8(q);
    if constexpr (F::kOffset != 0) x = sub(x, splat(F::kOffset));
    x = mul(splat(scale[g]), x);
    if constexpr (F::kBias) x = add(x, splat(bias[g]));
    return x;
  }

 private:
  MOE_INLINE inline void open_blocks(const typename F::Block* b, int n_blocks) {
    if constexpr (!kPacked<F>) {
      for (int i = 0; i < F::kRaws; ++i) store_halves(bytes + 32 * i, F::raw(b, i, n_blocks));
    } else if constexpr (F::kBlock == kChunk) {
      F::template unpack<U8x16, 2>(reinterpret_cast<const uint8_t*>(b) + F::kBitsAt, bytes);
    } else {
      alignas(64) uint8_t raw[32 * F::kRaws];
      for (int i = 0; i < F::kRaws; ++i) store_halves(raw + 32 * i, F::raw(b, i, n_blocks));
      F::template unpack<U8x16, 2>(raw, bytes);
    }
    F::scales(b, n_blocks, scale, bias);
  }
};

// out: (n_blocks · F::kBlock)
template <class F>
inline void decode_chunk(const typename F::Block* b, int n_blocks, float* out) {
  OpenChunk<F> chunk;
  chunk.open(b, n_blocks);
  // One loop, not one a group: of two, GCC 12 at AVX2 bases the address of `out` on that of `chunk` and then calls the function
  // free of effects.
  for (int i = 0; i < n_blocks * F::kBlock; i += kLanes) store(out + i, chunk.at(i / F::kGroup, i % F::kGroup));
}

template <class F>
inline int blocks_of_chunk(int64_t n_in, int64_t chunk) {
  const int64_t left = (n_in - chunk * kChunk) / F::kBlock;
  return static_cast<int>(left < kChunk / F::kBlock ? left : kChunk / F::kBlock);
}

template <class F>
inline const typename F::Block* block_at(const void* row, int64_t chunk) {
  return static_cast<const typename F::Block*>(row) + chunk * (kChunk / F::kBlock);
}

inline int64_t chunks_of(int64_t n_in) { return (n_in + kChunk - 1) / kChunk; }

}  // namespace
}  // namespace moe::cpu

// Q3_K: 256 elements in 16 groups of 16; 3.4375 bits a weight. x = d · (scale[g] - 32) · (q - 4), scale in 0..63, q in 0..7.
//
//   byte 0              32                      96             108     110
//        | hmask[0..31] | qs[0] ...      qs[63] | scales[0..11] | d f16 |
//
//   qs[32h + l]     bit 7..6      5..4      3..2      1..0
//     h = 0, 1          q of 128h + l + 96  + 64      + 32      + 0        bits 1..0
//   hmask[l]        bit k = bit 2 of the q of element 32k + l
//
//   scales: 16 numbers of 6 bits
//     byte j, j < 8       bit 7..4                       3..0
//                             scale[j + 8], bits 3..0    scale[j], bits 3..0
//     byte 8 + j, j < 4   bit 7..6        5..4        3..2        1..0
//                             scale[j+12] scale[j+8]  scale[j+4]  scale[j]     bits 5..4 of each
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockQ3_K {
  uint8_t hmask[32];   // element 32k + l: bit k of hmask[l]
  uint8_t qs[64];      // element 128h + 32s + l: bits 2s..2s+1 of qs[32h + l]
  uint8_t scales[12];  // 16 scales of 6 bits, see above
  uint16_t d;          // f16 scale of the scales
};
static_assert(sizeof(BlockQ3_K) == 110);

// The signed scale of group g, -32..31.
MOE_FORMAT_FN int q3_k_scale(const uint8_t* scales, int g) {
  const int low = scales[g % 8] >> (g / 8 * 4) & 15;
  const int high = scales[8 + g % 4] >> (g / 4 * 2) & 3;
  return (low | high << 4) - 32;
}

MOE_FORMAT_FN void decode_q3_k(const BlockQ3_K* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, out += 256) {
    const float d = f16_to_f32(b[i].d);
    for (int g = 0; g < 16; ++g) {
      const float scale = d * static_cast<float>(q3_k_scale(b[i].scales, g));
      const uint8_t* qs = b[i].qs + g / 8 * 32 + g % 2 * 16;
      const uint8_t* hmask = b[i].hmask + g % 2 * 16;
      const int shift = g % 8 / 2 * 2;
      for (int l = 0; l < 16; ++l) {
        const int q = (qs[l] >> shift & 3) | (hmask[l] >> (g / 2) & 1) << 2;
        out[16 * g + l] = scale * static_cast<float>(q - 4);
      }
    }
  }
}

void encode_q3_k(const float* x, const float* importance, BlockQ3_K* b, int64_t n_blocks);

}  // namespace moe

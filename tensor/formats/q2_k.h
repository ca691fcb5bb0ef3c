// Q2_K: 256 elements in 16 groups of 16; 2.625 bits a weight. x = d · scale[g] · q - dmin · min[g], q in 0..3.
//
//   byte 0              16                              80      82         84
//        | scales[0..15] | qs[0] ...              qs[63] | d f16 | dmin f16 |
//
//   scales[g]       bit 7..4      3..0
//                       min[g]    scale[g]          of elements 16g .. 16g + 15
//   qs[32h + l]     bit 7..6      5..4      3..2      1..0
//     h = 0, 1          q of 128h + l + 96  + 64      + 32      + 0
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockQ2_K {
  uint8_t scales[16];  // group g: scale in the low nibble, min in the high
  uint8_t qs[64];      // element 128h + 32s + l: bits 2s..2s+1 of qs[32h + l]
  uint16_t d;          // f16 scale of the scales
  uint16_t dmin;       // f16 scale of the mins
};
static_assert(sizeof(BlockQ2_K) == 84);

MOE_FORMAT_FN void decode_q2_k(const BlockQ2_K* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, out += 256) {
    const float d = f16_to_f32(b[i].d);
    const float dmin = f16_to_f32(b[i].dmin);
    for (int g = 0; g < 16; ++g) {
      const float scale = d * static_cast<float>(b[i].scales[g] & 15);
      const float min = dmin * static_cast<float>(b[i].scales[g] >> 4);
      const uint8_t* qs = b[i].qs + g / 8 * 32 + g % 2 * 16;
      const int shift = g % 8 / 2 * 2;
      for (int l = 0; l < 16; ++l) out[16 * g + l] = scale * static_cast<float>(qs[l] >> shift & 3) - min;
    }
  }
}

void encode_q2_k(const float* x, const float* importance, BlockQ2_K* b, int64_t n_blocks);

}  // namespace moe

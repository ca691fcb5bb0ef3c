// Q5_K: 256 elements in 8 groups of 32; 5.5 bits a weight. x = d · scale[g] · q - dmin · min[g], q in 0..31.
//
//   byte 0       2          4               16           48                     176
//        | d f16 | dmin f16 | scales[0..11] | qh[0..31]  | qs[0] ...   qs[127] |
//
//   qs[32p + l]     bit 7..4                          3..0
//     p = 0..3          q of 64p + l + 32, bits 3..0  q of 64p + l, bits 3..0
//   qh[l]           bit g = bit 4 of the q of element 32g + l
//   scales          packed as in Q4_K
#pragma once

#include "tensor/formats/q4_k.h"

namespace moe {

struct BlockQ5_K {
  uint16_t d;          // f16 scale of the scales
  uint16_t dmin;       // f16 scale of the mins
  uint8_t scales[12];  // 8 scales and 8 mins of 6 bits, see q4_k.h
  uint8_t qh[32];      // element 32g + l: bit g of qh[l]
  uint8_t qs[128];     // element 64p + l: low nibble of qs[32p + l]; element 64p + 32 + l: high nibble
};
static_assert(sizeof(BlockQ5_K) == 176);

MOE_FORMAT_FN void decode_q5_k(const BlockQ5_K* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, out += 256) {
    const float d = f16_to_f32(b[i].d);
    const float dmin = f16_to_f32(b[i].dmin);
    for (int g = 0; g < 8; ++g) {
      const float scale = d * static_cast<float>(q4_k_scale(b[i].scales, g));
      const float min = dmin * static_cast<float>(q4_k_min(b[i].scales, g));
      const uint8_t* qs = b[i].qs + g / 2 * 32;
      const int shift = g % 2 * 4;
      for (int l = 0; l < 32; ++l) {
        const int q = (qs[l] >> shift & 15) | (b[i].qh[l] >> g & 1) << 4;
        out[32 * g + l] = scale * static_cast<float>(q) - min;
      }
    }
  }
}

void encode_q5_k(const float* x, const float* importance, BlockQ5_K* b, int64_t n_blocks);

}  // namespace moe

// Q4_K: 256 elements in 8 groups of 32; 4.5 bits a weight. x = d · scale[g] · q - dmin · min[g], q in 0..15.
//
//   byte 0       2          4               16                           144
//        | d f16 | dmin f16 | scales[0..11] | qs[0] ...         qs[127] |
//
//   qs[32p + l]     bit 7..4                  3..0
//     p = 0..3          q of 64p + l + 32     q of 64p + l
//
//   scales: 8 scales and 8 mins of 6 bits
//     byte j,     j < 4   bit 7..6                       5..0
//                             scale[j + 4], bits 5..4    scale[j]
//     byte 4 + j, j < 4   bit 7..6                       5..0
//                             min[j + 4], bits 5..4      min[j]
//     byte 8 + j, j < 4   bit 7..4                       3..0
//                             min[j + 4], bits 3..0      scale[j + 4], bits 3..0
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockQ4_K {
  uint16_t d;          // f16 scale of the scales
  uint16_t dmin;       // f16 scale of the mins
  uint8_t scales[12];  // 8 scales and 8 mins of 6 bits, see above
  uint8_t qs[128];     // element 64p + l: low nibble of qs[32p + l]; element 64p + 32 + l: high nibble
};
static_assert(sizeof(BlockQ4_K) == 144);

// Scale and min of group g, 0..63 each; Q5_K packs them the same way.
MOE_FORMAT_FN int q4_k_scale(const uint8_t* scales, int g) {
  return g < 4 ? scales[g] & 63 : (scales[g + 4] & 15) | scales[g - 4] >> 6 << 4;
}
MOE_FORMAT_FN int q4_k_min(const uint8_t* scales, int g) {
  return g < 4 ? scales[g + 4] & 63 : scales[g + 4] >> 4 | scales[g] >> 6 << 4;
}

MOE_FORMAT_FN void decode_q4_k(const BlockQ4_K* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, out += 256) {
    const float d = f16_to_f32(b[i].d);
    const float dmin = f16_to_f32(b[i].dmin);
    for (int g = 0; g < 8; ++g) {
      const float scale = d * static_cast<float>(q4_k_scale(b[i].scales, g));
      const float min = dmin * static_cast<float>(q4_k_min(b[i].scales, g));
      const uint8_t* qs = b[i].qs + g / 2 * 32;
      const int shift = g % 2 * 4;
      for (int l = 0; l < 32; ++l) out[32 * g + l] = scale * static_cast<float>(qs[l] >> shift & 15) - min;
    }
  }
}

// The inverse of q4_k_scale and q4_k_min. scale, min: (8), 0..63; bytes: (12)
void pack_q4_k_scales(const int* scale, const int* min, uint8_t* bytes);

void encode_q4_k(const float* x, const float* importance, BlockQ4_K* b, int64_t n_blocks);

}  // namespace moe

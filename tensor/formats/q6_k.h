// Q6_K: 256 elements in 16 groups of 16; 6.5625 bits a weight. x = d · scale[g] · (q - 32), scale int8, q in 0..63.
//
//   byte 0                       128                192             208     210
//        | ql[0] ...     ql[127] | qh[0] ... qh[63] | scales[0..15] | d f16 |
//
//   for h = 0, 1 and l = 0..31, elements 128h + l + 0, 32, 64, 96:
//   ql[64h + l]        bit 7..4              3..0
//                          q of + 64         q of + 0           bits 3..0
//   ql[64h + 32 + l]   bit 7..4              3..0
//                          q of + 96         q of + 32          bits 3..0
//   qh[32h + l]        bit 7..6   5..4   3..2   1..0
//                          + 96   + 64   + 32   + 0             bits 5..4
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockQ6_K {
  uint8_t ql[128];    // low four bits
  uint8_t qh[64];     // high two bits
  int8_t scales[16];  // of elements 16g .. 16g + 15
  uint16_t d;         // f16 scale of the scales
};
static_assert(sizeof(BlockQ6_K) == 210);

MOE_FORMAT_FN void decode_q6_k(const BlockQ6_K* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, out += 256) {
    const float d = f16_to_f32(b[i].d);
    for (int g = 0; g < 16; ++g) {
      const float scale = d * static_cast<float>(b[i].scales[g]);
      const int quarter = g % 8 / 2;
      const uint8_t* ql = b[i].ql + g / 8 * 64 + quarter % 2 * 32 + g % 2 * 16;
      const uint8_t* qh = b[i].qh + g / 8 * 32 + g % 2 * 16;
      for (int l = 0; l < 16; ++l) {
        const int q = (ql[l] >> (quarter / 2 * 4) & 15) | (qh[l] >> (quarter * 2) & 3) << 4;
        out[16 * g + l] = scale * static_cast<float>(q - 32);
      }
    }
  }
}

void encode_q6_k(const float* x, const float* importance, BlockQ6_K* b, int64_t n_blocks);

}  // namespace moe

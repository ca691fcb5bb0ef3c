// Q4_1: 32 elements share a scale and an offset; 5 bits a weight. x = d · q + m, q in 0..15.
//
//   byte 0       2       4                          20
//        | d f16 | m f16 | qs[0] qs[1] ...   qs[15] |
//
//   qs[j]   bit 7..4            3..0
//               q of j + 16     q of j
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockQ4_1 {
  uint16_t d;      // f16 scale
  uint16_t m;      // f16 offset
  uint8_t qs[16];  // elements j (low nibble) and j + 16 (high nibble)
};
static_assert(sizeof(BlockQ4_1) == 20);

MOE_FORMAT_FN void decode_q4_1(const BlockQ4_1* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, out += 32) {
    const float d = f16_to_f32(b[i].d);
    const float m = f16_to_f32(b[i].m);
    for (int j = 0; j < 16; ++j) {
      out[j] = d * static_cast<float>(b[i].qs[j] & 15) + m;
      out[j + 16] = d * static_cast<float>(b[i].qs[j] >> 4) + m;
    }
  }
}

void encode_q4_1(const float* x, const float* importance, BlockQ4_1* b, int64_t n_blocks);

}  // namespace moe

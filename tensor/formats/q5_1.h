// Q5_1: 32 elements share a scale and an offset; 6 bits a weight. x = d · q + m, q in 0..31.
//
//   byte 0       2       4             8                          24
//        | d f16 | m f16 | qh[0..3]    | qs[0] qs[1] ...   qs[15] |
//
//   qs[j]   bit 7..4                    3..0
//               q of j + 16, bits 3..0  q of j, bits 3..0
//   qh as one little-endian word: bit j is bit 4 of element j's q
#pragma once

#include "tensor/formats/q5_0.h"

namespace moe {

struct BlockQ5_1 {
  uint16_t d;      // f16 scale
  uint16_t m;      // f16 offset
  uint8_t qh[4];   // bit 4 of element j: bit j % 8 of qh[j / 8]
  uint8_t qs[16];  // low bits of elements j (low nibble) and j + 16 (high nibble)
};
static_assert(sizeof(BlockQ5_1) == 24);

MOE_FORMAT_FN void decode_q5_1(const BlockQ5_1* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, out += 32) {
    const float d = f16_to_f32(b[i].d);
    const float m = f16_to_f32(b[i].m);
    const uint32_t high = q5_high_bits(b[i].qh);
    for (int j = 0; j < 16; ++j) {
      const int q0 = (b[i].qs[j] & 15) | static_cast<int>((high >> j & 1) << 4);
      const int q1 = (b[i].qs[j] >> 4) | static_cast<int>((high >> (j + 16) & 1) << 4);
      out[j] = d * static_cast<float>(q0) + m;
      out[j + 16] = d * static_cast<float>(q1) + m;
    }
  }
}

void encode_q5_1(const float* x, const float* importance, BlockQ5_1* b, int64_t n_blocks);

}  // namespace moe

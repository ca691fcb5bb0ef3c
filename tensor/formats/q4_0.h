// Q4_0: 32 elements share one scale; 4.5 bits a weight. x = d · (q - 8), q in 0..15; d may be negative.
//
//   byte 0       2                          18
//        | d f16 | qs[0] qs[1] ...   qs[15] |
//
//   qs[j]   bit 7..4            3..0
//               q of j + 16     q of j
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockQ4_0 {
  uint16_t d;      // f16 scale
  uint8_t qs[16];  // elements j (low nibble) and j + 16 (high nibble)
};
static_assert(sizeof(BlockQ4_0) == 18);

MOE_FORMAT_FN void decode_q4_0(const BlockQ4_0* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, out += 32) {
    const float d = f16_to_f32(b[i].d);
    for (int j = 0; j < 16; ++j) {
      out[j] = d * static_cast<float>((b[i].qs[j] & 15) - 8);
      out[j + 16] = d * static_cast<float>((b[i].qs[j] >> 4) - 8);
    }
  }
}

void encode_q4_0(const float* x, const float* importance, BlockQ4_0* b, int64_t n_blocks);

}  // namespace moe

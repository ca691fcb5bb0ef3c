// IQ4_NL: 32 elements share one scale; 4.5 bits a weight. x = d · level(q), q in 0..15; d may be negative.
// The levels are denser around zero, where weights are (table: kvalues_iq4nl of ggml).
//
//   byte 0       2                          18
//        | d f16 | qs[0] qs[1] ...   qs[15] |
//
//   qs[j]   bit 7..4            3..0
//               q of j + 16     q of j
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockIQ4_NL {
  uint16_t d;      // f16 scale
  uint8_t qs[16];  // elements j (low nibble) and j + 16 (high nibble)
};
static_assert(sizeof(BlockIQ4_NL) == 18);

MOE_FORMAT_FN int8_t iq4_nl_level(int q) {
  constexpr int8_t kLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  return kLevels[q];
}

MOE_FORMAT_FN void decode_iq4_nl(const BlockIQ4_NL* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, out += 32) {
    const float d = f16_to_f32(b[i].d);
    for (int j = 0; j < 16; ++j) {
      out[j] = d * static_cast<float>(iq4_nl_level(b[i].qs[j] & 15));
      out[j + 16] = d * static_cast<float>(iq4_nl_level(b[i].qs[j] >> 4));
    }
  }
}

void encode_iq4_nl(const float* x, const float* importance, BlockIQ4_NL* b, int64_t n_blocks);

}  // namespace moe

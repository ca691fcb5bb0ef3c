// Q8_0: 32 elements share one scale; 8.5 bits a weight. x = d · q, q in -127..127 (-128 is legal in files, never written).
//
//   byte 0       2                                 34
//        | d f16 | q0 q1 q2 ...                q31 |   int8 each
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockQ8_0 {
  uint16_t d;     // f16 scale
  int8_t qs[32];  // element j
};
static_assert(sizeof(BlockQ8_0) == 34);

MOE_FORMAT_FN void decode_q8_0(const BlockQ8_0* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, out += 32) {
    const float d = f16_to_f32(b[i].d);
    for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(b[i].qs[j]);
  }
}

// d = f16(largest magnitude / 127), q = round(x · (1 / d)), halves to even; takes no notice of importance.
void encode_q8_0(const float* x, const float* importance, BlockQ8_0* b, int64_t n_blocks);

}  // namespace moe

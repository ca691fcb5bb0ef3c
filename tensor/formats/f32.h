// F32: IEEE 754 single precision, one element a block.
//
//   bit 31      30..23        22..0
//       sign    exponent+127  mantissa
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockF32 {
  float value;
};
static_assert(sizeof(BlockF32) == 4);

MOE_FORMAT_FN void decode_f32(const BlockF32* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i) out[i] = b[i].value;
}

// Keeps every bit, NaN and infinities included.
MOE_FORMAT_FN void encode_f32(const float* x, const float* /*importance*/, BlockF32* b, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i) b[i].value = x[i];
}

}  // namespace moe

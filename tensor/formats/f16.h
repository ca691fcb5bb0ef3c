// F16: IEEE 754 half precision, one element a block.
//
//   bit 15      14..10       9..0
//       sign    exponent+15  mantissa
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockF16 {
  uint16_t bits;
};
static_assert(sizeof(BlockF16) == 2);

MOE_FORMAT_FN void decode_f16(const BlockF16* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i) out[i] = f16_to_f32(b[i].bits);
}

// Rounds to nearest even. NaN and infinities stay; finite values beyond ±65504 become ±65504, never infinity.
MOE_FORMAT_FN void encode_f16(const float* x, const float* /*importance*/, BlockF16* b, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i) {
    const uint16_t bits = f32_to_f16(x[i]);
    const bool overflowed = (bits & 0x7fffu) == 0x7c00u && (float_bits(x[i]) & 0x7fffffffu) != 0x7f800000u;
    b[i].bits = static_cast<uint16_t>(overflowed ? bits - 1 : bits);  // the largest finite number lies just below infinity
  }
}

}  // namespace moe

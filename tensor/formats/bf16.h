// BF16: the upper half of a float32, one element a block.
//
//   bit 15      14..7         6..0
//       sign    exponent+127  mantissa
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockBF16 {
  uint16_t bits;
};
static_assert(sizeof(BlockBF16) == 2);

MOE_FORMAT_FN void decode_bf16(const BlockBF16* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i) out[i] = bf16_to_f32(b[i].bits);
}

// Rounds to nearest even. NaN and infinities stay; finite values that would round to infinity become the largest finite.
MOE_FORMAT_FN void encode_bf16(const float* x, const float* /*importance*/, BlockBF16* b, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i) {
    const uint16_t bits = f32_to_bf16(x[i]);
    const bool overflowed = (bits & 0x7fffu) == 0x7f80u && (float_bits(x[i]) & 0x7fffffffu) != 0x7f800000u;
    b[i].bits = static_cast<uint16_t>(overflowed ? bits - 1 : bits);
  }
}

}  // namespace moe

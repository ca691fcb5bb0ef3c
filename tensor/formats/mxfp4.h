// MXFP4: 32 elements share one power of two; 4.25 bits a weight. x = 2^(e - 127) · fp4(q).
// OCP Microscaling Formats v1.0: elements are E2M1 floats, the scale is E8M0. Differs from it in one point, as ggml does:
// e = 255 is 2^128 and not NaN.
//
//   byte 0   1                          17
//        | e | qs[0] qs[1] ...   qs[15] |
//
//   qs[j]   bit 7..4            3..0
//               q of j + 16     q of j
//   q       bit 3     2..1        0
//               sign  exponent+1  mantissa         0 0.5 1 1.5 2 3 4 6 and their negatives
#pragma once

#include "tensor/formats/format.h"

namespace moe {

struct BlockMXFP4 {
  uint8_t e;       // exponent + 127
  uint8_t qs[16];  // elements j (low nibble) and j + 16 (high nibble)
};
static_assert(sizeof(BlockMXFP4) == 17);

// Twice the value of a code, which is an integer; -0 is 0.
MOE_FORMAT_FN int8_t mxfp4_level(int q) {
  constexpr int8_t kLevels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  return kLevels[q];
}

// 2^(e - 128): the scale of mxfp4_level. The two smallest are subnormal.
MOE_FORMAT_FN float mxfp4_scale(uint8_t e) {
  return float_from_bits(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
}

MOE_FORMAT_FN void decode_mxfp4(const BlockMXFP4* b, float* out, int64_t n_blocks) {
  for (int64_t i = 0; i < n_blocks; ++i, out += 32) {
    const float d = mxfp4_scale(b[i].e);
    for (int j = 0; j < 16; ++j) {
      out[j] = d * static_cast<float>(mxfp4_level(b[i].qs[j] & 15));
      out[j + 16] = d * static_cast<float>(mxfp4_level(b[i].qs[j] >> 4));
    }
  }
}

void encode_mxfp4(const float* x, const float* importance, BlockMXFP4* b, int64_t n_blocks);

}  // namespace moe

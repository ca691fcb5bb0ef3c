// Q4_0's encoder: the search of simple_block.h, packed as q4_0.h draws it.
#include "tensor/formats/q4_0.h"

#include "tensor/formats/simple_block.h"

namespace moe {

void encode_q4_0(const float* x, const float* importance, BlockQ4_0* b, int64_t n_blocks) {
  uint8_t codes[32];
  for (int64_t i = 0; i < n_blocks; ++i) {
    encode::fit_scaled_block(x + 32 * i, importance ? importance + 32 * i : nullptr, -8, &b[i].d, codes);
    encode::pack_nibbles(codes, b[i].qs);
  }
}

}  // namespace moe

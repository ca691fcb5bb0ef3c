// Q5_1's encoder: the search of simple_block.h, packed as q5_1.h draws it.
#include "tensor/formats/q5_1.h"

#include "tensor/formats/simple_block.h"

namespace moe {

void encode_q5_1(const float* x, const float* importance, BlockQ5_1* b, int64_t n_blocks) {
  uint8_t codes[32];
  for (int64_t i = 0; i < n_blocks; ++i) {
    encode::fit_affine_block(x + 32 * i, importance ? importance + 32 * i : nullptr, 31, &b[i].d, &b[i].m, codes);
    encode::pack_nibbles(codes, b[i].qs);
    encode::pack_fifth_bits(codes, b[i].qh);
  }
}

}  // namespace moe

// Q6_K's encoder: the super-block search, packed as q6_k.h draws it.
#include "tensor/formats/q6_k.h"

#include "tensor/formats/super_block.h"

namespace moe {

void encode_q6_k(const float* x, const float* importance, BlockQ6_K* b, int64_t n_blocks) {
  encode::Samples s;
  encode::ScaledSuperBlock fit;
  const encode::ScaledShape shape{.groups = 16, .lo = -32, .hi = 31, .scale_lo = -128, .scale_hi = 127};
  for (int64_t i = 0; i < n_blocks; ++i) {
    encode::load_samples(x + 256 * i, importance ? importance + 256 * i : nullptr, 256, 65504.0f * 127 * 31, &s);
    encode::fit_super_block(s, shape, &fit);
    b[i].d = fit.d;
    for (int g = 0; g < 16; ++g) b[i].scales[g] = static_cast<int8_t>(fit.scale[g]);
    for (int h = 0; h < 2; ++h) {
      for (int l = 0; l < 32; ++l) {
        const uint8_t* c = fit.codes + 128 * h + l;
        b[i].ql[64 * h + l] = static_cast<uint8_t>((c[0] & 15) | (c[64] & 15) << 4);
        b[i].ql[64 * h + 32 + l] = static_cast<uint8_t>((c[32] & 15) | (c[96] & 15) << 4);
        b[i].qh[32 * h + l] = static_cast<uint8_t>(c[0] >> 4 | c[32] >> 4 << 2 | c[64] >> 4 << 4 | c[96] >> 4 << 6);
      }
    }
  }
}

}  // namespace moe

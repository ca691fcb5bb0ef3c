// Q2_K's encoder: the super-block search, packed as q2_k.h draws it.
#include "tensor/formats/q2_k.h"

#include "tensor/formats/super_block.h"

namespace moe {

void encode_q2_k(const float* x, const float* importance, BlockQ2_K* b, int64_t n_blocks) {
  encode::Samples s;
  encode::AffineSuperBlock fit;
  for (int64_t i = 0; i < n_blocks; ++i) {
    encode::load_samples(x + 256 * i, importance ? importance + 256 * i : nullptr, 256, 65504.0f * 15, &s);
    encode::fit_super_block(s, encode::AffineShape{.groups = 16, .hi = 3, .scale_hi = 15}, &fit);
    b[i].d = fit.d;
    b[i].dmin = fit.dmin;
    for (int g = 0; g < 16; ++g) b[i].scales[g] = static_cast<uint8_t>(fit.scale[g] | fit.min[g] << 4);
    for (int h = 0; h < 2; ++h) {
      for (int l = 0; l < 32; ++l) {
        const uint8_t* c = fit.codes + 128 * h + l;
        b[i].qs[32 * h + l] = static_cast<uint8_t>(c[0] | c[32] << 2 | c[64] << 4 | c[96] << 6);
      }
    }
  }
}

}  // namespace moe

// Q5_K's encoder: the super-block search, packed as q5_k.h draws it.
#include "tensor/formats/q5_k.h"

#include "tensor/formats/super_block.h"

namespace moe {

void encode_q5_k(const float* x, const float* importance, BlockQ5_K* b, int64_t n_blocks) {
  encode::Samples s;
  encode::AffineSuperBlock fit;
  for (int64_t i = 0; i < n_blocks; ++i) {
    encode::load_samples(x + 256 * i, importance ? importance + 256 * i : nullptr, 256, 65504.0f * 63, &s);
    encode::fit_super_block(s, encode::AffineShape{.groups = 8, .hi = 31, .scale_hi = 63}, &fit);
    b[i].d = fit.d;
    b[i].dmin = fit.dmin;
    pack_q4_k_scales(fit.scale, fit.min, b[i].scales);
    for (int p = 0; p < 4; ++p) {
      const uint8_t* c = fit.codes + 64 * p;
      for (int l = 0; l < 32; ++l) b[i].qs[32 * p + l] = static_cast<uint8_t>((c[l] & 15) | (c[l + 32] & 15) << 4);
    }
    for (int l = 0; l < 32; ++l) {
      int high = 0;
      for (int g = 0; g < 8; ++g) high |= fit.codes[32 * g + l] >> 4 << g;
      b[i].qh[l] = static_cast<uint8_t>(high);
    }
  }
}

}  // namespace moe

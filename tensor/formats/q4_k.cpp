// Q4_K's encoder: the super-block search, packed as q4_k.h draws it.
#include "tensor/formats/q4_k.h"

#include "tensor/formats/super_block.h"

namespace moe {

void pack_q4_k_scales(const int* scale, const int* min, uint8_t* bytes) {
  for (int j = 0; j < 4; ++j) {
    bytes[j] = static_cast<uint8_t>(scale[j] | scale[j + 4] >> 4 << 6);
    bytes[j + 4] = static_cast<uint8_t>(min[j] | min[j + 4] >> 4 << 6);
    bytes[j + 8] = static_cast<uint8_t>((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
  }
}

void encode_q4_k(const float* x, const float* importance, BlockQ4_K* b, int64_t n_blocks) {
  encode::Samples s;
  encode::AffineSuperBlock fit;
  for (int64_t i = 0; i < n_blocks; ++i) {
    encode::load_samples(x + 256 * i, importance ? importance + 256 * i : nullptr, 256, 65504.0f * 63, &s);
    encode::fit_super_block(s, encode::AffineShape{.groups = 8, .hi = 15, .scale_hi = 63}, &fit);
    b[i].d = fit.d;
    b[i].dmin = fit.dmin;
    pack_q4_k_scales(fit.scale, fit.min, b[i].scales);
    for (int p = 0; p < 4; ++p) {
      const uint8_t* c = fit.codes + 64 * p;
      for (int l = 0; l < 32; ++l) b[i].qs[32 * p + l] = static_cast<uint8_t>(c[l] | c[l + 32] << 4);
    }
  }
}

}  // namespace moe

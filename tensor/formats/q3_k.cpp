// Q3_K's encoder: the super-block search, packed as q3_k.h draws it.
#include "tensor/formats/q3_k.h"

#include "tensor/formats/super_block.h"

namespace moe {
namespace {

// scale: (16), -32..31
void pack_scales(const int* scale, uint8_t* bytes) {
  for (int j = 0; j < 12; ++j) bytes[j] = 0;
  for (int g = 0; g < 16; ++g) {
    const int stored = scale[g] + 32;
    bytes[g % 8] = static_cast<uint8_t>(bytes[g % 8] | (stored & 15) << (g / 8 * 4));
    bytes[8 + g % 4] = static_cast<uint8_t>(bytes[8 + g % 4] | stored >> 4 << (g / 4 * 2));
  }
}

}  // namespace

void encode_q3_k(const float* x, const float* importance, BlockQ3_K* b, int64_t n_blocks) {
  encode::Samples s;
  encode::ScaledSuperBlock fit;
  const encode::ScaledShape shape{.groups = 16, .lo = -4, .hi = 3, .scale_lo = -32, .scale_hi = 31};
  for (int64_t i = 0; i < n_blocks; ++i) {
    encode::load_samples(x + 256 * i, importance ? importance + 256 * i : nullptr, 256, 65504.0f * 31 * 3, &s);
    encode::fit_super_block(s, shape, &fit);
    b[i].d = fit.d;
    pack_scales(fit.scale, b[i].scales);
    for (int h = 0; h < 2; ++h) {
      for (int l = 0; l < 32; ++l) {
        const uint8_t* c = fit.codes + 128 * h + l;
        b[i].qs[32 * h + l] = static_cast<uint8_t>((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
      }
    }
    for (int l = 0; l < 32; ++l) {
      int high = 0;
      for (int k = 0; k < 8; ++k) high |= fit.codes[32 * k + l] >> 2 << k;
      b[i].hmask[l] = static_cast<uint8_t>(high);
    }
  }
}

}  // namespace moe

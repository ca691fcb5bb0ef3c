// Blocks of one group: the search's real scale becomes an f16, and the codes are rounded anew with that.
#include "tensor/formats/simple_block.h"

namespace moe::encode {

void fit_scaled_block(const float* x, const float* importance, int lo, uint16_t* d, uint8_t* codes) {
  const auto low = static_cast<float>(lo);
  const float high = -low - 1;
  Samples s;
  load_samples(x, importance, 32, 65504 * high, &s);
  const Group g = group_of(s, 0, 32);
  const ScaleFit fit = fit_scale(g, UniformLevels{low, high}, 0.15f, 7);
  *d = to_f16(fit.scale);
  round_codes(g, f16_to_f32(*d), 0, low, high, codes);
}

void fit_affine_block(const float* x, const float* importance, int hi, uint16_t* d, uint16_t* m, uint8_t* codes) {
  const auto high = static_cast<float>(hi);
  Samples s;
  load_samples(x, importance, 32, 65504, &s);
  const Group g = group_of(s, 0, 32);
  const AffineFit fit = fit_affine(g, high, false);
  *d = to_f16(fit.scale);
  *m = to_f16(refit_offset(g, f16_to_f32(*d), fit.offset, high));
  round_codes(g, f16_to_f32(*d), f16_to_f32(*m), 0, high, codes);
}

void pack_nibbles(const uint8_t* codes, uint8_t* qs) {
  for (int j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((codes[j] & 15) | codes[j + 16] << 4);
}

void pack_fifth_bits(const uint8_t* codes, uint8_t* qh) {
  for (int k = 0; k < 4; ++k) {
    int byte = 0;
    for (int bit = 0; bit < 8; ++bit) byte |= (codes[8 * k + bit] >> 4 & 1) << bit;
    qh[k] = static_cast<uint8_t>(byte);
  }
}

}  // namespace moe::encode

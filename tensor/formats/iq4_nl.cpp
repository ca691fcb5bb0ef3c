#include "tensor/formats/iq4_nl.h"

#include "tensor/formats/simple_block.h"

namespace moe {
namespace {

// The code of the level nearest to v.
int nearest_code(float v) {
  int code = 0;
  while (code < 15 && 2 * v > static_cast<float>(iq4_nl_level(code) + iq4_nl_level(code + 1))) ++code;
  return code;
}

}  // namespace

void encode_iq4_nl(const float* x, const float* importance, BlockIQ4_NL* b, int64_t n_blocks) {
  float table[16];
  for (int q = 0; q < 16; ++q) table[q] = static_cast<float>(iq4_nl_level(q));
  const encode::TableLevels<16> levels(table);
  encode::Samples s;
  uint8_t codes[32];
  for (int64_t i = 0; i < n_blocks; ++i) {
    encode::load_samples(x + 32 * i, importance ? importance + 32 * i : nullptr, 32, 65504.0f * 113, &s);
    const encode::Group g = encode::group_of(s, 0, 32);
    const encode::ScaleFit fit = encode::fit_scale(g, levels, 6, 2);
    b[i].d = encode::to_f16(fit.scale);
    const float d = f16_to_f32(b[i].d);
    const float inverse = d != 0 ? 1 / d : 0;
    for (int j = 0; j < 32; ++j) codes[j] = static_cast<uint8_t>(nearest_code(s.x[j / 4][j % 4] * inverse));
    encode::pack_nibbles(codes, b[i].qs);
  }
}

}  // namespace moe

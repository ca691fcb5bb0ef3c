// IQ4_NL's encoder: a search for the scale, with the nearest of the uneven levels from a table.
#include "tensor/formats/iq4_nl.h"

#include "tensor/formats/simple_block.h"

namespace moe {

void encode_iq4_nl(const float* x, const float* importance, BlockIQ4_NL* b, int64_t n_blocks) {
  const encode::TableLevels levels(iq4_nl_level);
  encode::Samples s;
  uint8_t codes[32];
  for (int64_t i = 0; i < n_blocks; ++i) {
    encode::load_samples(x + 32 * i, importance ? importance + 32 * i : nullptr, 32, 65504.0f * 113, &s);
    const encode::Group g = encode::group_of(s, 0, 32);
    const encode::ScaleFit fit = encode::fit_scale(g, levels, 4, 3);
    b[i].d = encode::to_f16(fit.scale);
    const float d = f16_to_f32(b[i].d);
    levels.round_codes(g, d != 0 ? 1 / d : 0, codes);
    encode::pack_nibbles(codes, b[i].qs);
  }
}

}  // namespace moe

// MXFP4's encoder: tries the few powers of two that can be best and keeps the one that loses least.
#include "tensor/formats/mxfp4.h"

#include "tensor/formats/simple_block.h"

namespace moe {
namespace {

// 6 · 2^125: the largest magnitude that decodes to a finite float32 whatever the codes are.
constexpr float kLargest = 0x1.8p127f;
constexpr int kLargestExponent = 252;

float power_of_two(int exponent) { return float_from_bits(static_cast<uint32_t>(exponent + 127) << 23); }

// floor(log2(f)) of a positive float, subnormals included.
int exponent_of(float f) {
  const auto biased = static_cast<int>(float_bits(f) >> 23);
  return biased > 0 ? biased - 127 : static_cast<int>(float_bits(f * 0x1p24f) >> 23) - 127 - 24;
}

// Weighted squared error of levels · unit.
float error_with(const encode::Group& g, const encode::TableLevels& levels, float unit) {
  encode::Vec4 error = encode::splat(0);
  for (int i = 0; i < g.quads; ++i) {
    const encode::Vec4 rest = g.x[i] - levels.nearest(g.x[i] * encode::splat(1 / unit)) * encode::splat(unit);
    error += g.w[i] * rest * rest;
  }
  return encode::sum(error);
}

}  // namespace

void encode_mxfp4(const float* x, const float* importance, BlockMXFP4* b, int64_t n_blocks) {
  const encode::TableLevels levels(mxfp4_level);
  encode::Samples s;
  uint8_t codes[32];
  for (int64_t i = 0; i < n_blocks; ++i) {
    encode::load_samples(x + 32 * i, importance ? importance + 32 * i : nullptr, 32, kLargest, &s);
    const encode::Group g = encode::group_of(s, 0, 32);
    const float peak = encode::peak_of(g);
    b[i] = {};
    if (peak == 0) continue;

    // Scaled so that the peak lies in 1..2 nothing overflows; in two factors, as 2^149 is no float. An exponent e then
    // means half units of 2^(e - 128 - top).
    const int top = exponent_of(peak < 0 ? -peak : peak);
    const encode::Vec4 first = encode::splat(power_of_two(-top / 2)), second = encode::splat(power_of_two(-top + top / 2));
    for (int k = 0; k < 8; ++k) s.x[k] = s.x[k] * first * second;

    const int usual = top - 2 + 127;  // the peak becomes 4..8 units, its top being 6
    int best_e = -1;
    float best_error = 0;
    for (const int delta : {0, 1, -1, -2, -3}) {
      const int e = usual + delta < 0 ? 0 : usual + delta > kLargestExponent ? kLargestExponent : usual + delta;
      const float error = error_with(g, levels, power_of_two(e - 128 - top));
      if (best_e < 0 || error < best_error) best_e = e, best_error = error;
    }
    b[i].e = static_cast<uint8_t>(best_e);
    levels.round_codes(g, power_of_two(128 + top - best_e), codes);
    encode::pack_nibbles(codes, b[i].qs);
  }
}

}  // namespace moe

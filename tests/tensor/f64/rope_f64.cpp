// References of rotary positions.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {
namespace {

// attrs.h: the angle that pair i turns by a position.
double angle_of_pair(const RopeTableAttrs& a, double i, double factor) {
  const double dims = static_cast<double>(a.dims), plain = std::pow(double{a.base}, -2 * i / dims) / factor;
  const double interpolated = plain * double{a.freq_scale};
  if (a.ext_factor == 0) return interpolated;
  const auto pair_that_turns = [&](double times) {
    const double ratio = static_cast<double>(a.original_ctx) / (times * 2 * std::numbers::pi);
    return dims * std::log(ratio) / (2 * std::log(double{a.base}));
  };
  const double low = std::max(0.0, std::floor(pair_that_turns(a.beta_fast)));
  const double high = std::min(dims - 1, std::ceil(pair_that_turns(a.beta_slow)));
  const double ramp = std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
  const double plain_share = (1 - ramp) * double{a.ext_factor};
  return plain_share * plain + (1 - plain_share) * interpolated;
}

}  // namespace

void rope_table_f64(const Op64& op) {
  const auto& a = op.attrs<RopeTableAttrs>();
  const Doubles& positions = op.in(0);
  const auto half = static_cast<size_t>(a.dims / 2);
  Doubles& y = op.out();
  for (size_t t = 0; t < positions.size(); ++t)
    for (size_t i = 0; i < half; ++i) {
      const double angle = positions[t] * angle_of_pair(a, static_cast<double>(i), op.has(1) ? op.in(1)[i] : 1);
      y[2 * t * half + i] = double{a.attn_factor} * std::cos(angle);
      y[2 * t * half + half + i] = double{a.attn_factor} * std::sin(angle);
    }
}

void rope_f64(const Op64& op) {
  const auto& a = op.attrs<RopeAttrs>();
  const auto n = static_cast<size_t>(op.in_last(0)), head = static_cast<size_t>(a.head_dim),
             half = static_cast<size_t>(a.dims / 2);
  const Doubles &x = op.in(0), &table = op.in(1);
  Doubles& y = op.out();
  y = x;
  for (size_t at = 0; at < y.size(); at += head)
    for (size_t i = 0; i < half; ++i) {
      const bool pairs = a.style == RopeStyle::kInterleaved;
      const size_t first = at + static_cast<size_t>(a.offset), row = at / n * 2 * half;
      const size_t i0 = first + (pairs ? 2 * i : i), i1 = first + (pairs ? 2 * i + 1 : i + half);
      const double c = table[row + i], s = (a.inverse ? -1 : 1) * table[row + half + i];
      y[i0] = x[i0] * c - x[i1] * s, y[i1] = x[i0] * s + x[i1] * c;
    }
}

}  // namespace moe::test

// Searches within one group: see encode_search.h for the idea.
#include "tensor/formats/encode_search.h"

namespace moe::encode {
namespace {

// Importance relative to the largest of the block, plus a trace: elements nobody measured still get sensible codes.
constexpr float kTraceWeight = 1e-6f;
constexpr float kHugeImportance = 1e30f;

float finite_within(float f, float limit) {
  if (f > limit) return limit;
  if (f < -limit) return -limit;
  return f == f ? f : 0;
}

float importance_of(float f) { return f > 0 ? (f < kHugeImportance ? f : kHugeImportance) : 0; }

float inverse_of(float scale) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  return inverse < 1e30f && inverse > -1e30f ? inverse : 0;
}

struct Range {
  float lo, hi;
};

Range range_of(const Group& g) {
  Vec4 lo = g.x[0], hi = g.x[0];
  for (int i = 1; i < g.quads; ++i) {
    lo = g.x[i] < lo ? g.x[i] : lo;
    hi = g.x[i] > hi ? g.x[i] : hi;
  }
  Range r{lo[0], hi[0]};
  for (int k = 1; k < 4; ++k) {
    r.lo = lo[k] < r.lo ? lo[k] : r.lo;
    r.hi = hi[k] > r.hi ? hi[k] : r.hi;
  }
  return r;
}

// Sums of a group that do not depend on the codes.
struct Moments {
  float w;         // sum of the weights
  float mean;      // weighted mean of x
  float variance;  // sum of w · (x - mean)²
};

Moments moments_of(const Group& g) {
  Vec4 w = splat(0), wx = splat(0), wxx = splat(0);
  for (int i = 0; i < g.quads; ++i) {
    w += g.w[i];
    wx += g.w[i] * g.x[i];
  }
  Moments m{sum(w), sum(wx) / sum(w), 0};
  for (int i = 0; i < g.quads; ++i) {
    const Vec4 centred = g.x[i] - splat(m.mean);
    wxx += g.w[i] * centred * centred;
  }
  m.variance = sum(wxx);
  return m;
}

// Least squares for the codes that (inverse, offset) lead to. With x centred on its weighted mean, sum(w · x) is zero and
// the two unknowns separate: scale = sum(wqx) / (sum(wqq) - sum(wq)² / sum(w)).
AffineFit try_affine(const Group& g, const Moments& m, float hi, bool nonpositive, float inverse, float offset) {
  Vec4 q1 = splat(0), qq = splat(0), qx = splat(0);
  for (int i = 0; i < g.quads; ++i) {
    const Vec4 q = round_nearest(clamp((g.x[i] - splat(offset)) * splat(inverse), 0, hi));
    const Vec4 wq = g.w[i] * q;
    q1 += wq;
    qq += wq * q;
    qx += wq * (g.x[i] - splat(m.mean));
  }
  const float sum_q = sum(q1), sum_qq = sum(qq), sum_qx = sum(qx);
  const float spread = sum_qq - sum_q * sum_q / m.w;
  AffineFit fit{0, m.mean, m.variance};
  if (spread > 1e-6f * sum_qq && sum_qx > 0) {
    fit.scale = sum_qx / spread;
    fit.offset = m.mean - fit.scale * sum_q / m.w;
    fit.error = m.variance - fit.scale * sum_qx;
  }
  if (nonpositive && fit.offset > 0) {
    const float through_zero = sum_qq > 0 ? (sum_qx + m.mean * sum_q) / sum_qq : 0;
    fit = {through_zero, 0, m.variance + m.mean * m.mean * m.w - through_zero * (sum_qx + m.mean * sum_q)};
  }
  return fit;
}

}  // namespace

TableLevels::TableLevels(int8_t (*level_of_code)(int)) : lo(127), hi(-128) {
  for (int q = 0; q < 16; ++q) {
    const float level = level_of_code(q);
    lo = level < lo ? level : lo;
    hi = level > hi ? level : hi;
  }
  for (int i = 0; i < 512; ++i) {
    const float here = lo + 0.5f * static_cast<float>(i) + 0.25f;
    code_[i] = 0;
    for (int q = 1; q < 16; ++q) {
      const float distance = here - static_cast<float>(level_of_code(q)),
                  best = here - static_cast<float>(level_of_code(code_[i]));
      if (distance * distance < best * best) code_[i] = static_cast<uint8_t>(q);
    }
    level_[i] = level_of_code(code_[i]);
  }
}

void load_samples(const float* x, const float* importance, int n, float limit, Samples* s) {
  float largest = 0;
  for (int i = 0; importance != nullptr && i < n; ++i) {
    const float w = importance_of(importance[i]);
    largest = w > largest ? w : largest;
  }
  const bool weighted = largest > 1e-30f;
  const float inverse = weighted ? 1 / largest : 0;
  for (int i = 0; i < n; ++i) {
    s->x[i / 4][i % 4] = finite_within(x[i], limit);
    s->w[i / 4][i % 4] = weighted ? importance_of(importance[i]) * inverse + kTraceWeight : 1;
  }
}

float peak_of(const Group& g) {
  const Range r = range_of(g);
  return r.hi > -r.lo ? r.hi : r.lo;
}

uint16_t to_f16(float f) { return f32_to_f16(finite_within(f, 65504)); }

AffineFit fit_affine(const Group& g, float hi, bool nonpositive) {
  Range r = range_of(g);
  if (nonpositive && r.lo > 0) r.lo = 0;
  const Moments m = moments_of(g);
  AffineFit best{0, nonpositive && m.mean > 0 ? 0 : m.mean, m.variance};
  if (nonpositive && m.mean > 0) best.error += m.mean * m.mean * m.w;
  if (!(r.hi - r.lo > 1e-15f)) return best;

  // The ends of the range go `low` codes below 0 and `high` codes above hi, where they are clipped.
  for (const float low : {-0.3f, 0.0f, 0.3f, 0.6f}) {
    for (const float high : {-0.3f, 0.0f, 0.3f, 0.6f}) {
      const float inverse = (hi + low + high) / (r.hi - r.lo);
      const AffineFit fit = try_affine(g, m, hi, nonpositive, inverse, r.lo + low / inverse);
      if (fit.error < best.error) best = fit;
    }
  }
  for (int round = 0; round < 4; ++round) {
    const AffineFit fit = try_affine(g, m, hi, nonpositive, inverse_of(best.scale), best.offset);
    if (!(fit.error < best.error)) break;
    best = fit;
  }
  return best;
}

float rounding_error(const Group& g, float scale, float offset, float lo, float hi) {
  const float inverse = inverse_of(scale);
  Vec4 error = splat(0);
  for (int i = 0; i < g.quads; ++i) {
    const Vec4 x = g.x[i] - splat(offset);
    const Vec4 rest = x - round_nearest(clamp(x * splat(inverse), lo, hi)) * splat(scale);
    error += g.w[i] * rest * rest;
  }
  return sum(error);
}

float refit_offset(const Group& g, float scale, float offset, float hi) {
  const float inverse = inverse_of(scale);
  Vec4 rest = splat(0), w = splat(0);
  for (int i = 0; i < g.quads; ++i) {
    const Vec4 q = round_nearest(clamp((g.x[i] - splat(offset)) * splat(inverse), 0, hi));
    rest += g.w[i] * (g.x[i] - q * splat(scale));
    w += g.w[i];
  }
  return sum(rest) / sum(w);
}

void round_codes(const Group& g, float scale, float offset, float lo, float hi, uint8_t* codes) {
  const float inverse = inverse_of(scale);
  for (int i = 0; i < g.quads; ++i) {
    const Vec4 q = round_nearest(clamp((g.x[i] - splat(offset)) * splat(inverse), lo, hi));
    for (int k = 0; k < 4; ++k) codes[4 * i + k] = static_cast<uint8_t>(q[k] - lo);
  }
}

}  // namespace moe::encode

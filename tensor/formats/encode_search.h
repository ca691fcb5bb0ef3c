// The searches behind the encoders: which scale (and offset) loses least when a group of elements is rounded to few levels.
//
// A group is x ≈ scale · level + offset with weights w. For fixed levels the best scale and offset are a least-squares
// solution, and for a fixed scale and offset the best levels are the nearest ones. Alternating the two ends in a local
// optimum, so each search tries many starting scales, keeps the best and alternates from there (the idea of make_qx_quants
// and make_qkx2_quants in ggml, which stop after the first least-squares step).
//
// Everything works on vectors of four floats, written with the compiler's vector extension: sums have one fixed order on
// every machine, and no instruction beyond the baseline is needed.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "tensor/formats/format.h"

namespace moe::encode {

using Vec4 = float __attribute__((vector_size(16)));

static inline Vec4 splat(float f) { return Vec4{f, f, f, f}; }
static inline Vec4 clamp(Vec4 v, float lo, float hi) {
  const Vec4 low = splat(lo), high = splat(hi);
  v = v < low ? low : v;
  return v > high ? high : v;
}
static inline float sum(Vec4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }

// To the nearest integer, halves to even; |v| < 2^22: adding 1.5 · 2^23 leaves no bits for a fraction.
static inline Vec4 round_nearest(Vec4 v) { return (v + splat(0x1.8p23f)) - splat(0x1.8p23f); }

// Elements made safe: x finite and within ±limit, weights in (0, 1].
struct Samples {
  Vec4 x[64];
  Vec4 w[64];
};

// n, a multiple of 4 up to 256, elements of x and importance (null: all equal) into s.
void load_samples(const float* x, const float* importance, int n, float limit, Samples* s);

// A part of Samples: `quads` vectors of four elements.
struct Group {
  const Vec4* x;
  const Vec4* w;
  int quads;
};
static inline Group group_of(const Samples& s, int first_element, int n) {
  return {s.x + first_element / 4, s.w + first_element / 4, n / 4};
}

// The element of largest magnitude, with its sign.
float peak_of(const Group& g);

// f16 bits of a scale, saturating at ±65504.
uint16_t to_f16(float f);

// Levels lo, lo + 1, ..., hi.
struct UniformLevels {
  float lo, hi;
  Vec4 nearest(Vec4 v) const { return round_nearest(clamp(v, lo, hi)); }
};

// Sixteen integer levels in any order, for instance iq4_nl_level. The midpoint of two integers is a whole number of halves,
// so a table with one entry a half finds the nearest level exactly.
class TableLevels {
 public:
  explicit TableLevels(int8_t (*level_of_code)(int));

  Vec4 nearest(Vec4 v) const {
    const Vec4 p = position(v);
    return Vec4{level_[static_cast<int>(p[0])], level_[static_cast<int>(p[1])], level_[static_cast<int>(p[2])],
                level_[static_cast<int>(p[3])]};
  }
  // codes: (4 · quads), of the levels nearest to x · inverse
  void round_codes(const Group& g, float inverse, uint8_t* codes) const {
    for (int i = 0; i < g.quads; ++i) {
      const Vec4 p = position(g.x[i] * splat(inverse));
      for (int k = 0; k < 4; ++k) codes[4 * i + k] = code_[static_cast<int>(p[k])];
    }
  }

  float lo, hi;

 private:
  Vec4 position(Vec4 v) const { return (clamp(v, lo, hi) - splat(lo)) * splat(2); }

  float level_[512];  // nearest to lo + (i + 1/2) / 2
  uint8_t code_[512];
};

// x ≈ scale · level: the best scale for the levels nearest to x · inverse. gain is what these levels explain of
// sum(w · x²), that is, the weighted squared error is sum(w · x²) - gain.
struct ScaleFit {
  float scale = 0;
  float gain = 0;
};

template <class Levels>
ScaleFit try_inverse(const Group& g, const Levels& levels, float inverse) {
  Vec4 xl = splat(0), ll = splat(0);
  for (int i = 0; i < g.quads; ++i) {
    const Vec4 level = levels.nearest(g.x[i] * splat(inverse));
    const Vec4 weighted = g.w[i] * level;
    xl += weighted * g.x[i];
    ll += weighted * level;
  }
  const float sum_xl = sum(xl), sum_ll = sum(ll);
  if (!(sum_ll > 0)) return {};
  return {sum_xl / sum_ll, sum_xl / sum_ll * sum_xl};
}

// The best scale of a group. The peak is tried at and around both ends of the levels: `steps` steps of `step` to each side.
template <class Levels>
ScaleFit fit_scale(const Group& g, const Levels& levels, float step, int steps) {
  const float peak = peak_of(g);
  ScaleFit best;
  if (!(peak > 1e-15f || peak < -1e-15f)) return best;  // far below what an f16 scale can express; squares would underflow
  for (const float end : {levels.lo, levels.hi}) {
    for (int k = -steps; k <= steps; ++k) {
      const ScaleFit fit = try_inverse(g, levels, (end + step * static_cast<float>(k)) / peak);
      if (fit.gain > best.gain) best = fit;
    }
  }
  for (int round = 0; round < 4 && best.scale != 0; ++round) {
    const ScaleFit fit = try_inverse(g, levels, 1 / best.scale);
    if (!(fit.gain > best.gain)) break;
    best = fit;
  }
  return best;
}

// x ≈ scale · q + offset, q in 0..hi, scale ≥ 0.
struct AffineFit {
  float scale = 0;
  float offset = 0;
  float error = 0;  // weighted squared error with unrounded scale and offset
};

// nonpositive: the format stores the offset as a minimum to subtract, so it must be ≤ 0.
AffineFit fit_affine(const Group& g, float hi, bool nonpositive);

// Weighted squared error when every element takes its best q in lo..hi of x ≈ scale · q + offset.
float rounding_error(const Group& g, float scale, float offset, float lo, float hi);

// The offset that suits the q in lo..hi that (scale, offset) lead to.
float refit_offset(const Group& g, float scale, float offset, float hi);

// Those q, as integers minus lo: 0..hi - lo. codes: (4 · quads)
void round_codes(const Group& g, float scale, float offset, float lo, float hi, uint8_t* codes);

}  // namespace moe::encode

// Searches across the groups of a super-block: see super_block.h for the idea.
#include "tensor/formats/super_block.h"

namespace moe::encode {
namespace {

constexpr int kStarts = 2;  // the largest scale becomes the largest integer, or one less
constexpr int kRounds = 3;

int round_to_int(float f) { return static_cast<int>(f < 0 ? f - 0.5f : f + 0.5f); }
int clamp_int(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }
int nearest_int(float value, float unit, int lo, int hi) {
  const float ratio = unit != 0 ? value / unit : 0;
  if (!(ratio > static_cast<float>(lo))) return lo;
  if (!(ratio < static_cast<float>(hi))) return hi;
  return round_to_int(ratio);
}

struct ScaledTrial {
  uint16_t d;
  int scale[16];
  float error;
};

// The integer of one group that loses least, among those around the real optimum.
int best_scale(const Group& g, const ScaledShape& shape, float d, float wanted, float* error) {
  const auto lo = static_cast<float>(shape.lo), hi = static_cast<float>(shape.hi);
  const int centre = nearest_int(wanted, d, shape.scale_lo, shape.scale_hi);
  int best = centre;
  *error = rounding_error(g, d * static_cast<float>(centre), 0, lo, hi);
  for (const int delta : {-1, 1, -2, 2}) {
    const int candidate = clamp_int(centre + delta, shape.scale_lo, shape.scale_hi);
    const float e = rounding_error(g, d * static_cast<float>(candidate), 0, lo, hi);
    if (e < *error) best = candidate, *error = e;
  }
  return best;
}

// wanted: the groups' real scales. (groups)
ScaledTrial try_unit(const Samples& s, const ScaledShape& shape, const float* wanted, float d) {
  const int n = 256 / shape.groups;
  ScaledTrial trial{};
  trial.d = to_f16(d);
  for (int k = 0; k < shape.groups; ++k) {
    float error;
    trial.scale[k] = best_scale(group_of(s, k * n, n), shape, f16_to_f32(trial.d), wanted[k], &error);
    trial.error += error;
  }
  return trial;
}

// Least squares for d when scales and codes stay: sum(w·x·t) / sum(w·t·t), t = scale · level.
float refit(const Samples& s, const ScaledShape& shape, const ScaledTrial& t) {
  const int n = 256 / shape.groups;
  const float d = f16_to_f32(t.d);
  const UniformLevels levels{static_cast<float>(shape.lo), static_cast<float>(shape.hi)};
  double xt = 0, tt = 0;
  for (int k = 0; k < shape.groups; ++k) {
    const Group g = group_of(s, k * n, n);
    const auto scale = static_cast<float>(t.scale[k]);
    if (d * scale == 0) continue;
    Vec4 xl = splat(0), ll = splat(0);
    for (int i = 0; i < g.quads; ++i) {
      const Vec4 level = levels.nearest(g.x[i] * splat(1 / (d * scale)));
      xl += g.w[i] * g.x[i] * level;
      ll += g.w[i] * level * level;
    }
    xt += static_cast<double>(sum(xl)) * scale;
    tt += static_cast<double>(sum(ll)) * scale * scale;
  }
  return tt > 0 ? static_cast<float>(xt / tt) : d;
}

struct AffineTrial {
  uint16_t d, dmin;
  int scale[16];
  int min[16];
  float error;
};

// The pair of integers of one group that loses least: for each scale around the optimum, the min that suits it and its
// neighbours.
void best_pair(const Group& g, const AffineShape& shape, float d, float dmin, const AffineFit& fit, int* scale, int* min,
               float* error) {
  const auto hi = static_cast<float>(shape.hi);
  const int scale_centre = nearest_int(fit.scale, d, 0, shape.scale_hi);
  *error = -1;
  for (const int scale_delta : {0, -1, 1}) {
    const int sc = clamp_int(scale_centre + scale_delta, 0, shape.scale_hi);
    const float real_scale = d * static_cast<float>(sc);
    const float offset = refit_offset(g, real_scale, fit.offset, hi);
    const int min_centre = nearest_int(-offset, dmin, 0, shape.scale_hi);
    for (const int min_delta : {0, -1, 1}) {
      const int m = clamp_int(min_centre + min_delta, 0, shape.scale_hi);
      const float e = rounding_error(g, real_scale, -dmin * static_cast<float>(m), 0, hi);
      if (*error < 0 || e < *error) *scale = sc, *min = m, *error = e;
    }
  }
}

struct Pair {
  float d, dmin;
};

// wanted: the groups' real scales and offsets. (groups)
AffineTrial try_units(const Samples& s, const AffineShape& shape, const AffineFit* wanted, Pair unit) {
  const int n = 256 / shape.groups;
  AffineTrial trial{};
  trial.d = to_f16(unit.d);
  trial.dmin = to_f16(unit.dmin);
  for (int k = 0; k < shape.groups; ++k) {
    float error;
    best_pair(group_of(s, k * n, n), shape, f16_to_f32(trial.d), f16_to_f32(trial.dmin), wanted[k], &trial.scale[k],
              &trial.min[k], &error);
    trial.error += error;
  }
  return trial;
}

// Least squares for d and dmin when scales, mins and codes stay: x ≈ d · t - dmin · m with t = scale · code.
Pair refit(const Samples& s, const AffineShape& shape, const AffineTrial& t) {
  const int n = 256 / shape.groups;
  const Pair old{f16_to_f32(t.d), f16_to_f32(t.dmin)};
  const UniformLevels levels{0, static_cast<float>(shape.hi)};
  double tt = 0, tm = 0, mm = 0, xt = 0, xm = 0;
  for (int k = 0; k < shape.groups; ++k) {
    const Group g = group_of(s, k * n, n);
    const auto scale = static_cast<float>(t.scale[k]), min = static_cast<float>(t.min[k]);
    const float real_scale = old.d * scale;
    const float inverse = real_scale != 0 ? 1 / real_scale : 0;
    Vec4 w = splat(0), wx = splat(0), q1 = splat(0), qq = splat(0), qx = splat(0);
    for (int i = 0; i < g.quads; ++i) {
      const Vec4 q = levels.nearest((g.x[i] + splat(old.dmin * min)) * splat(inverse));
      w += g.w[i];
      wx += g.w[i] * g.x[i];
      q1 += g.w[i] * q;
      qq += g.w[i] * q * q;
      qx += g.w[i] * q * g.x[i];
    }
    const double sc = scale, mn = min;
    tt += sc * sc * sum(qq), tm += sc * mn * sum(q1), mm += mn * mn * sum(w);
    xt += sc * sum(qx), xm += mn * sum(wx);
  }
  const double det = tt * mm - tm * tm;
  if (det > 1e-9 * tt * mm) {
    return {static_cast<float>((xt * mm - xm * tm) / det), static_cast<float>((xt * tm - xm * tt) / det)};
  }
  return {tt > 0 ? static_cast<float>((xt + static_cast<double>(old.dmin) * tm) / tt) : old.d, old.dmin};
}

}  // namespace

void fit_super_block(const Samples& s, const ScaledShape& shape, ScaledSuperBlock* out) {
  const int n = 256 / shape.groups;
  const auto lo = static_cast<float>(shape.lo), hi = static_cast<float>(shape.hi);
  float wanted[16];
  float largest = 0;
  for (int k = 0; k < shape.groups; ++k) {
    wanted[k] = fit_scale(group_of(s, k * n, n), UniformLevels{lo, hi}, 0.2f, 4).scale;
    if (wanted[k] * wanted[k] > largest * largest) largest = wanted[k];
  }

  ScaledTrial best{};
  best.error = -1;
  for (int start = 0; start < kStarts; ++start) {
    float d = largest / static_cast<float>(shape.scale_lo + start);
    for (int round = 0; round < kRounds; ++round) {
      const ScaledTrial trial = try_unit(s, shape, wanted, d);
      d = refit(s, shape, trial);
      if (best.error >= 0 && !(trial.error < best.error)) break;
      best = trial;
    }
  }

  out->d = best.d;
  for (int k = 0; k < shape.groups; ++k) {
    out->scale[k] = best.scale[k];
    const float scale = f16_to_f32(best.d) * static_cast<float>(best.scale[k]);
    round_codes(group_of(s, k * n, n), scale, 0, lo, hi, out->codes + k * n);
  }
}

void fit_super_block(const Samples& s, const AffineShape& shape, AffineSuperBlock* out) {
  const int n = 256 / shape.groups;
  const auto hi = static_cast<float>(shape.hi);
  AffineFit wanted[16];
  Pair largest{0, 0};
  for (int k = 0; k < shape.groups; ++k) {
    wanted[k] = fit_affine(group_of(s, k * n, n), hi, true);
    if (wanted[k].scale > largest.d) largest.d = wanted[k].scale;
    if (-wanted[k].offset > largest.dmin) largest.dmin = -wanted[k].offset;
  }

  AffineTrial best{};
  best.error = -1;
  for (int start = 0; start < kStarts; ++start) {
    const auto top = static_cast<float>(shape.scale_hi - start);
    Pair unit{largest.d / top, largest.dmin / top};
    for (int round = 0; round < kRounds; ++round) {
      const AffineTrial trial = try_units(s, shape, wanted, unit);
      unit = refit(s, shape, trial);
      if (best.error >= 0 && !(trial.error < best.error)) break;
      best = trial;
    }
  }

  out->d = best.d;
  out->dmin = best.dmin;
  for (int k = 0; k < shape.groups; ++k) {
    out->scale[k] = best.scale[k];
    out->min[k] = best.min[k];
    const float scale = f16_to_f32(best.d) * static_cast<float>(best.scale[k]);
    const float offset = -f16_to_f32(best.dmin) * static_cast<float>(best.min[k]);
    round_codes(group_of(s, k * n, n), scale, offset, 0, hi, out->codes + k * n);
  }
}

}  // namespace moe::encode

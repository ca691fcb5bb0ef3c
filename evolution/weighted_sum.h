// Several objectives as one, for algorithms that know one only.
//
//   Σ weight_m · value_m / |baseline_m|
//
// Values have units; divided by what the untouched model scores they are shares of it, so milliseconds or seconds, bytes or
// gigabytes rank alike. Weights of objectives that mean different things are a matter of taste all the same: a front leaves
// that choice to the end.
#pragma once

#include <span>

#include "core/status.h"
#include "evolution/score.h"

namespace moe {

class WeightedSum {
 public:
  // One weight and one baseline an objective. Refused: counts that differ, weights that are negative or all 0, anything not
  // finite, a baseline of 0 where the weight is not.
  static Result<WeightedSum> make(std::span<const double> weights, std::span<const double> baseline);

  // values[0] is the sum; the violation stays.
  Score operator()(const Score& score) const;

 private:
  int n_objectives_ = 0;
  Objectives weights_{}, baseline_{};  // baseline: magnitudes
};

}  // namespace moe

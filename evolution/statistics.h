// Whether one method is better than another, from paired runs: medians, the signed-rank test, the size of the effect.
#pragma once

#include <span>
#include <vector>

namespace moe {

double median(std::span<const double> values);                     // of none: NaN
double quantile_of(std::span<const double> values, double share);  // linear between neighbours (type 7); of none: NaN

// Wilcoxon's signed-rank test of pairs a[i], b[i] (Biometrics Bulletin 1, 1945). Pairs that are equal are left out, equal
// differences share their ranks.
struct SignedRank {
  int n = 0;                         // pairs that differ
  double plus = 0, minus = 0;        // sums of ranks of a > b and of a < b
  double p_less = 1, p_greater = 1;  // of such a sum, or one further out, if a and b were alike: a tends to be less, greater
  double p_two_sided = 1;
  bool exact = true;  // up to kMostExactPairs pairs; beyond them the normal approximation, corrected for ties and continuity
};
inline constexpr int kMostExactPairs = 25;
SignedRank signed_rank_test(std::span<const double> a, std::span<const double> b);

// Vargha and Delaney's A12 (J. Educ. Behav. Stat. 25(2), 2000): how often a value of a is larger than one of b, ties half.
// .5: no difference; .56, .64 and .71 are called small, medium and large. Of none: NaN.
double a12(std::span<const double> a, std::span<const double> b);

// Holm's step-down correction (Scand. J. Stat. 6, 1979) of p values of several tests, in their order.
std::vector<double> holm(std::span<const double> p);

// Kendall's tau-b of two rankings of the same things; NaN where one says nothing.
double kendall_tau(std::span<const double> a, std::span<const double> b);

}  // namespace moe

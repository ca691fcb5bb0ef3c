#include "evolution/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include "core/check.h"

namespace moe {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Ranks {
  std::vector<int> doubled;  // twice the rank, which makes shared ones whole: |d| ranked from 1 on
  double ties = 0;           // Σ t³ − t over groups of t equal ones
};

Ranks ranks_of(const std::vector<double>& differences) {
  std::vector<size_t> order(differences.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto size = [&](size_t i) { return std::fabs(differences[i]); };
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return size(i) < size(j); });
  Ranks r;
  r.doubled.resize(order.size());
  for (size_t first = 0, last; first < order.size(); first = last) {
    for (last = first + 1; last < order.size() && size(order[last]) == size(order[first]);) ++last;
    for (size_t i = first; i < last; ++i) r.doubled[order[i]] = static_cast<int>(first + last + 1);
    const auto t = static_cast<double>(last - first);
    r.ties += t * t * t - t;
  }
  return r;
}

// P(sum ≤ doubled_sum) when every rank counts with probability ½: all 2ⁿ cases, by sum.
double exact_below(const std::vector<int>& doubled, int doubled_sum) {
  const int total = std::accumulate(doubled.begin(), doubled.end(), 0);
  std::vector<double> cases(static_cast<size_t>(total) + 1);  // integers below 2^25
  cases[0] = 1;
  for (const int r : doubled)
    for (int s = total; s >= r; --s) cases[static_cast<size_t>(s)] += cases[static_cast<size_t>(s - r)];
  const double below = std::accumulate(cases.begin(), cases.begin() + doubled_sum + 1, 0.0);
  return std::ldexp(below, -static_cast<int>(doubled.size()));
}

double normal_below(double sum, double n, double ties) {
  const double mean = n * (n + 1) / 4, variance = n * (n + 1) * (2 * n + 1) / 24 - ties / 48;
  return 0.5 * std::erfc(-(sum + 0.5 - mean) / std::sqrt(2 * variance));
}

}  // namespace

double quantile_of(std::span<const double> values, double share) {
  if (values.empty()) return kNan;
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  if (at == static_cast<double>(low)) return sorted[low];  // infinite neighbours do not count
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

double median(std::span<const double> values) { return quantile_of(values, 0.5); }

SignedRank signed_rank_test(std::span<const double> a, std::span<const double> b) {
  MOE_CHECK(a.size() == b.size());
  std::vector<double> differences;
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i] != b[i]) differences.push_back(a[i] - b[i]);
  SignedRank r;
  r.n = static_cast<int>(differences.size());
  if (r.n == 0) return r;
  const Ranks ranks = ranks_of(differences);
  int plus = 0, minus = 0;
  for (size_t i = 0; i < differences.size(); ++i) (differences[i] > 0 ? plus : minus) += ranks.doubled[i];
  r.plus = plus / 2.0, r.minus = minus / 2.0;
  r.exact = r.n <= kMostExactPairs;
  const auto below = [&](int doubled_sum) {
    return r.exact ? exact_below(ranks.doubled, doubled_sum) : normal_below(doubled_sum / 2.0, r.n, ranks.ties);
  };
  r.p_less = std::min(1.0, below(plus)), r.p_greater = std::min(1.0, below(minus));
  r.p_two_sided = std::min(1.0, 2 * std::min(r.p_less, r.p_greater));
  return r;
}

double a12(std::span<const double> a, std::span<const double> b) {
  if (a.empty() || b.empty()) return kNan;
  double larger = 0;
  for (const double x : a)
    for (const double y : b) larger += x > y ? 1 : x == y ? 0.5 : 0;
  return larger / (static_cast<double>(a.size()) * static_cast<double>(b.size()));
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return p[i] < p[j]; });
  std::vector<double> corrected(p.size());
  double largest = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, std::min(1.0, p[order[i]] * static_cast<double>(order.size() - i)));
    corrected[order[i]] = largest;
  }
  return corrected;
}

double kendall_tau(std::span<const double> a, std::span<const double> b) {
  MOE_CHECK(a.size() == b.size());
  int64_t agree = 0, in_a = 0, in_b = 0;
  const auto sign = [](double x, double y) { return (x > y) - (x < y); };
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const int x = sign(a[i], a[j]), y = sign(b[i], b[j]);
      agree += x * y, in_a += x * x, in_b += y * y;
    }
  }
  return in_a && in_b ? static_cast<double>(agree) / std::sqrt(static_cast<double>(in_a) * static_cast<double>(in_b)) : kNan;
}

}  // namespace moe

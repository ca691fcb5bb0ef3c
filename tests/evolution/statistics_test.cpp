// Tests of significance against published tables and examples.
#include "evolution/statistics.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <numeric>

namespace moe {
namespace {

// n pairs that differ by 1 … n, b less where its bit is set: a sum of ranks of anything.
SignedRank test_of(int n, uint64_t a_larger) {
  std::vector<double> a(static_cast<size_t>(n)), b(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) (a_larger >> i & 1 ? a : b)[static_cast<size_t>(i)] = i + 1;
  return signed_rank_test(a, b);
}

// Ranks whose sum is `sum`, the largest first.
uint64_t ranks_with_sum(int n, int sum) {
  uint64_t set = 0;
  for (int r = n; r > 0; --r)
    if (r <= sum) set |= uint64_t{1} << (r - 1), sum -= r;
  return set;
}

TEST_CASE("sums of ranks are significant where the published table says so") {
  // Largest sums with one-sided p ≤ .025, n from 6 on (Wilcoxon and Wilcox, 1964).
  constexpr int kCritical[] = {0, 2, 3, 5, 8, 10, 13, 17, 21, 25, 29, 34, 40, 46, 52, 58, 65, 73, 81, 89};
  int n = 6;
  for (const int sum : kCritical) {
    CAPTURE(n);
    const SignedRank at = test_of(n, ranks_with_sum(n, sum)), above = test_of(n, ranks_with_sum(n, sum + 1));
    CHECK(at.plus == sum);
    CHECK(at.p_less <= 0.025);
    CHECK(above.p_less > 0.025);
    CHECK(at.p_two_sided == 2 * at.p_less);
    ++n;
  }
  CHECK(test_of(5, 0).p_less == 1.0 / 32);
  CHECK(test_of(8, 4).p_less == 5.0 / 256);  // sums of 0, 1, 2 and twice 3
}

TEST_CASE("Darwin's maize: V = 96, p = .0413") {
  const double differences[] = {49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48};  // eighths of an inch
  const std::vector<double> zero(15, 0.0);
  const SignedRank r = signed_rank_test(differences, zero);
  CHECK(r.n == 15);
  CHECK(r.plus == 96);
  CHECK(r.minus == 24);
  CHECK(r.exact);
  CHECK(r.p_two_sided == doctest::Approx(0.04126).epsilon(1e-3));
  CHECK(r.p_greater == r.p_two_sided / 2);
}

TEST_CASE("equal differences share ranks, equal pairs do not count") {
  const double a[] = {2, 1, 5, 7}, b[] = {1, 2, 3, 7};  // +1, −1, +2: ranks 1.5, 1.5, 3
  const SignedRank r = signed_rank_test(a, b);
  CHECK(r.n == 3);
  CHECK(r.plus == 4.5);
  CHECK(r.minus == 1.5);
  CHECK(r.p_greater == 3.0 / 8);
  CHECK(signed_rank_test(b, b).p_two_sided == 1);
}

TEST_CASE("beyond 25 pairs the normal approximation takes over without a step") {
  // Published for n = 30: 137 is the largest sum with two-sided p ≤ .05.
  CHECK_FALSE(test_of(26, 0).exact);
  CHECK(test_of(30, ranks_with_sum(30, 137)).p_two_sided == doctest::Approx(0.05).epsilon(0.02));
  for (const int sum : {60, 90, 120}) {
    const double exact = test_of(25, ranks_with_sum(25, sum)).p_less;
    const double mean = 25 * 26 / 4.0, deviation = std::sqrt(25 * 26 * 51 / 24.0);
    CHECK(exact == doctest::Approx(0.5 * std::erfc(-(sum + 0.5 - mean) / deviation / std::sqrt(2.0))).epsilon(0.1));
  }
}

TEST_CASE("A12 is the share of pairs that are larger") {
  const double a[] = {1, 2, 3}, b[] = {2, 2, 0, 4};
  CHECK(a12(a, b) == (1 + 2 + 3) / 12.0);  // 1 > 0; 2 > 0, two ties; 3 > 2, 2, 0
  CHECK(a12(a, b) + a12(b, a) == 1);
  CHECK(a12(a, a) == 0.5);
  CHECK(std::isnan(a12({}, a)));
}

TEST_CASE("Holm's correction steps down") {
  const double p[] = {0.01, 0.04, 0.03, 0.005};
  const double wanted[] = {0.03, 0.06, 0.06, 0.02};
  const std::vector<double> found = holm(p);
  for (size_t i = 0; i < 4; ++i) CHECK(found[i] == doctest::Approx(wanted[i]));
  CHECK(holm(std::vector<double>{0.9, 0.8})[0] == 1);
}

TEST_CASE("Kendall's tau-b counts pairs in order, ties apart") {
  const double a[] = {1, 2, 3, 4}, b[] = {1, 3, 2, 4}, ties[] = {1, 1, 2, 2};
  CHECK(kendall_tau(a, a) == 1);
  CHECK(kendall_tau(a, b) == doctest::Approx(4.0 / 6));
  CHECK(kendall_tau(a, ties) == doctest::Approx(4 / std::sqrt(6.0 * 4)));
  CHECK(std::isnan(kendall_tau(a, std::vector<double>{1, 1, 1, 1})));
}

TEST_CASE("medians and quantiles lie between neighbours") {
  CHECK(median(std::vector<double>{3, 1, 2}) == 2);
  CHECK(median(std::vector<double>{4, 1, 2, 3}) == 2.5);
  CHECK(quantile_of(std::vector<double>{1, 2, 3, 4, 5}, 0.25) == 2);
  CHECK(quantile_of(std::vector<double>{0, 10}, 0.9) == 9);
  CHECK(median(std::vector<double>{1, 2, HUGE_VAL}) == 2);
  CHECK(std::isnan(median({})));
}

}  // namespace
}  // namespace moe

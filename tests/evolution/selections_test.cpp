#include "evolution/selections.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <set>

using namespace moe;

namespace {

constexpr size_t kSlots = 10;
constexpr size_t kDraws = 100'000;
constexpr double kChiSquare = 27.88;  // 9 degrees of freedom, p = 0.001

// Slot s has rank (7s + 3) mod 10 and value rank²: neither in order nor evenly spaced.
std::vector<Score> population() {
  std::vector<Score> scores(kSlots);
  for (size_t s = 0; s < kSlots; ++s) {
    const double rank = static_cast<double>((7 * s + 3) % kSlots);
    scores[s].values[0] = rank * rank;
  }
  return scores;
}

std::vector<uint32_t> draw(const std::string& name, std::span<const Score> scores, double pressure, size_t n) {
  std::vector<uint32_t> chosen(n);
  Rng rng(17);
  find_selection(name).value()->select(scores, order_by_first_objective(scores), pressure, rng, chosen);
  return chosen;
}

// Σ (found − expected)² / expected over ranks; infinite where the impossible happened.
double chi_square(const char* name, double pressure, double (*probability)(double rank, double pressure)) {
  std::vector<double> count(kSlots, 0);
  for (const uint32_t slot : draw(name, population(), pressure, kDraws)) ++count[(7 * slot + 3) % kSlots];
  double sum = 0;
  for (size_t r = 0; r < kSlots; ++r) {
    const double expected = kDraws * probability(static_cast<double>(r), pressure);
    const double off = count[r] - expected;
    if (expected > 0)
      sum += off * off / expected;
    else if (off != 0)
      return INFINITY;
  }
  return sum;
}

double tournament(double r, double k) { return (std::pow(kSlots - r, k) - std::pow(kSlots - r - 1, k)) / std::pow(kSlots, k); }
double linear_rank(double r, double s) { return (s - 2 * (s - 1) * r / (kSlots - 1)) / kSlots; }
double roulette(double r, double) { return (81 - r * r) / (810 - 285); }  // Σ r² = 285
double truncation(double r, double share) { return r < std::ceil(share * kSlots) ? 1 / std::ceil(share * kSlots) : 0; }

}  // namespace

TEST_CASE("selections draw with the probabilities of their closed forms") {
  for (const double k : {1.0, 2.0, 3.0, 7.0}) CHECK(chi_square("tournament", k, tournament) < kChiSquare);
  for (const double s : {1.0, 1.5, 1.8, 2.0}) CHECK(chi_square("rank", s, linear_rank) < kChiSquare);
  CHECK(chi_square("roulette", 0, roulette) < kChiSquare);
  for (const double share : {0.1, 0.25, 0.5, 1.0}) CHECK(chi_square("truncation", share, truncation) < kChiSquare);
}

TEST_CASE("the test of selections tells one pressure from another") {
  CHECK(chi_square("tournament", 2, [](double r, double) { return tournament(r, 3); }) > 1000);
  CHECK(chi_square("rank", 1.5, [](double r, double) { return linear_rank(r, 1.6); }) > 100);
}

TEST_CASE("the order runs from feasible to infeasible to dropped, ties by slot") {
  std::vector<Score> scores(6);
  scores[0] = {{5}, 0};
  scores[1] = {{1}, 2};
  scores[2] = {{3}, 0};
  scores[3] = {{0}, kDropped};
  scores[4] = {{9}, 1};
  scores[5] = {{3}, 0};
  CHECK(order_by_first_objective(scores) == std::vector<uint32_t>{2, 5, 0, 4, 1, 3});
}

TEST_CASE("roulette: only the feasible, else those not dropped; alike are drawn alike") {
  const auto set = [](const std::vector<Score>& scores) {
    const std::vector<uint32_t> chosen = draw("roulette", scores, 0, 2000);
    return std::set(chosen.begin(), chosen.end());
  };
  CHECK(set({{{5}, 0}, {{1}, 2}, {{3}, 0}, {{7}, 0}}) == std::set<uint32_t>{0, 2});
  CHECK(set({{{5}, 3}, {{1}, 2}, {{3}, kDropped}, {{7}, 1}}) == std::set<uint32_t>{1, 3});
  CHECK(set({{{5}, 0}, {{1}, 2}, {{5}, 0}}) == std::set<uint32_t>{0, 2});
  CHECK(set({{{5}, kDropped}, {{1}, kDropped}}) == std::set<uint32_t>{0, 1});
  CHECK(set({{{1e308}, 0}, {{-1e308}, 0}}) == std::set<uint32_t>{0, 1});  // the difference is no number
}

TEST_CASE("every selection works on one slot, and names are looked up") {
  const std::vector<Score> one(1);
  for (const SelectionRow& row : selections()) {
    CHECK(draw(row.name, one, row.own_pressure, 3) == std::vector<uint32_t>{0, 0, 0});
    CHECK(row.own_pressure >= row.least_pressure);
    CHECK(row.own_pressure <= row.most_pressure);
  }
  const auto unknown = find_selection("lottery");
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.status().message() == "selection: wanted one of tournament, rank, roulette, truncation, found 'lottery'");
}

// The closed forms in the comments are what tests/evolution/selections_test.cpp holds the draws against. r: position in the
// order, 0 the best; n: population.
#include "evolution/selections.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "core/check.h"

namespace moe {
namespace {

using Population = std::span<const Score>;
using Order = std::span<const uint32_t>;
using Chosen = std::span<uint32_t>;

// The best of `pressure` draws: ((n − r)^k − (n − r − 1)^k) / n^k.
void tournament(Population, Order order, double pressure, Rng& rng, Chosen chosen) {
  const int rounds = static_cast<int>(pressure);
  for (uint32_t& slot : chosen) {
    uint64_t best = rng.below(order.size());
    for (int i = 1; i < rounds; ++i) best = std::min(best, rng.below(order.size()));
    slot = order[best];
  }
}

// Uniform among the first ⌈pressure · n⌉.
void truncation(Population, Order order, double pressure, Rng& rng, Chosen chosen) {
  const double room = std::ceil(pressure * static_cast<double>(order.size()));
  const uint64_t n = std::clamp<uint64_t>(static_cast<uint64_t>(room), 1, order.size());
  for (uint32_t& slot : chosen) slot = order[rng.below(n)];
}

// Index i with probability weights[i] / Σ weights. None negative, at least one positive.
void spin(std::vector<double> weights, Rng& rng, Chosen chosen) {
  std::partial_sum(weights.begin(), weights.end(), weights.begin());
  const double total = weights.back();
  const auto last = std::lower_bound(weights.begin(), weights.end(), total);  // where rounding would lead beyond the end
  for (uint32_t& i : chosen) {
    const auto at = std::upper_bound(weights.begin(), weights.end(), rng.uniform_double() * total);
    i = static_cast<uint32_t>(std::min(at, last) - weights.begin());
  }
}

// Baker, 1985: (s − 2(s − 1) · r/(n − 1)) / n, from s/n for the best down to (2 − s)/n for the worst.
void linear_rank(Population, Order order, double pressure, Rng& rng, Chosen chosen) {
  const double n = static_cast<double>(order.size());
  std::vector<double> weights(order.size(), 1);
  for (size_t r = 0; r < order.size() && n > 1; ++r)
    weights[r] = pressure - 2 * (pressure - 1) * static_cast<double>(r) / (n - 1);
  spin(std::move(weights), rng, chosen);
  for (uint32_t& i : chosen) i = order[i];
}

// (worst − value) / Σ (worst − value) among the feasible, the worst of whom is never chosen unless all are alike. Where
// nobody is feasible, the same with violations among those not dropped.
void roulette(Population population, Order order, double, Rng& rng, Chosen chosen) {
  const Score& best = population[order[0]];
  const auto takes_part = [&](const Score& s) { return best.feasible() ? s.feasible() : best.dropped() || !s.dropped(); };
  const auto key = [&](const Score& s) { return best.dropped() ? 0 : best.feasible() ? s.values[0] : s.violation; };
  double worst = key(best);
  for (const Score& s : population)
    if (takes_part(s)) worst = std::max(worst, key(s));
  std::vector<double> weights(population.size(), 0);
  double total = 0;
  for (size_t i = 0; i < population.size(); ++i) {
    if (takes_part(population[i])) weights[i] = worst - key(population[i]);
    total += weights[i];
  }
  if (!(total > 0) || !std::isfinite(total))
    for (size_t i = 0; i < population.size(); ++i) weights[i] = takes_part(population[i]) ? 1 : 0;
  spin(std::move(weights), rng, chosen);
}

}  // namespace

std::vector<uint32_t> order_by_first_objective(std::span<const Score> scores) {
  std::vector<uint32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    if (scores[a].violation != scores[b].violation) return scores[a].violation < scores[b].violation;
    return !scores[a].dropped() && scores[a].values[0] < scores[b].values[0];
  });
  return order;
}

std::span<const SelectionRow> selections() {
  static const SelectionRow kSelections[] = {
      {"tournament", "the best of PRESSURE slots drawn at random (2)", 2, 1, 1024, tournament},
      {"rank", "linear in the rank; the best is expected PRESSURE times, 1 to 2 (1.8)", 1.8, 1, 2, linear_rank},
      {"roulette", "in proportion to how much better than the worst; knows no pressure", 0, 0, 0, roulette},
      {"truncation", "evenly among the best PRESSURE of the population, up to 1 (0.5)", 0.5, 0, 1, truncation},
  };
  return kSelections;
}

Result<const SelectionRow*> find_selection(std::string_view name, std::span<const SelectionRow> own) {
  std::string known;
  for (const std::span<const SelectionRow> table : {own, selections()})
    for (const SelectionRow& row : table) {
      if (name == row.name) return &row;
      known += (known.empty() ? "" : ", ") + row.name;
    }
  return Status::NotFound("selection: wanted one of " + known + ", found '" + std::string(name) + "'");
}

}  // namespace moe

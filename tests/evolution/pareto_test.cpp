#include "evolution/pareto.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "core/rng.h"

using namespace moe;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Score score(std::initializer_list<double> values, double violation = 0) {
  Score s;
  std::copy(values.begin(), values.end(), s.values.begin());
  s.violation = violation;
  return s;
}

// Rank by definition: 1 + the greatest rank of those who dominate it.
std::vector<uint32_t> ranks_by_pairs(const std::vector<Score>& scores, int m) {
  std::vector<uint32_t> rank(scores.size(), 0);
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < scores.size(); ++i)
      for (size_t j = 0; j < scores.size(); ++j)
        if (rank[i] <= rank[j] && dominates(scores[j], scores[i], m)) rank[i] = rank[j] + 1, changed = true;
  }
  return rank;
}

struct Mix {
  const char* name;
  uint64_t levels;  // different values of an objective; 0: as many as there are numbers
  bool infeasible;
};

}  // namespace

TEST_CASE("dominance: less violation first, then nowhere worse and somewhere better") {
  CHECK(dominates(score({1, 2}), score({1, 3}), 2));
  CHECK_FALSE(dominates(score({1, 3}), score({1, 2}), 2));
  CHECK_FALSE(dominates(score({1, 2}), score({1, 2}), 2));
  CHECK_FALSE(dominates(score({1, 3}), score({2, 2}), 2));
  CHECK(dominates(score({1, 3}), score({1, 2}, 0.5), 2));                 // feasible first
  CHECK(dominates(score({9, 9}, 0.5), score({1, 2}, 0.6), 2));            // then less violation
  CHECK(dominates(score({1, 2}, 0.5), score({1, 3}, 0.5), 2));            // then values
  CHECK_FALSE(dominates(score({1}, kDropped), score({2}, kDropped), 1));  // those given up are alike
  CHECK(dominates(score({1, 2, 9}), score({1, 3, 0}), 2));                // what is beyond n_objectives does not count
}

TEST_CASE("fronts are those that comparing all pairs gives, for any number of objectives, ties, copies and violations") {
  const Mix mixes[] = {{"real numbers", 0, false}, {"few values", 3, false}, {"ties", 12, false}, {"violations", 12, true}};
  for (const Mix& mix : mixes)
    for (int m = 1; m <= 7; ++m)
      for (uint64_t trial = 0; trial < 6; ++trial) {
        CAPTURE(mix.name);
        CAPTURE(m);
        CAPTURE(trial);
        Rng rng(trial, static_cast<uint64_t>(m));
        std::vector<Score> scores(1 + rng.below(260));
        for (Score& s : scores) {
          for (int k = 0; k < m; ++k)
            s.values[k] = mix.levels == 0 ? rng.uniform_double() : static_cast<double>(rng.below(mix.levels)) - 1;
          const uint64_t violation = mix.infeasible ? rng.below(4) : 0;
          s.violation = violation == 3 ? kDropped : static_cast<double>(violation);
        }
        CHECK(sort_fronts(scores, m).rank == ranks_by_pairs(scores, m));
      }
}

TEST_CASE("fronts list every score once, in ascending order") {
  Rng rng(3);
  std::vector<Score> scores(500);
  for (Score& s : scores) s = score({rng.uniform_double(), rng.uniform_double(), rng.uniform_double()});
  const Fronts fronts = sort_fronts(scores, 3);
  std::vector<uint32_t> seen(scores.size(), 0);
  for (size_t f = 0; f < fronts.size(); ++f) {
    CHECK(std::is_sorted(fronts[f].begin(), fronts[f].end()));
    CHECK_FALSE(fronts[f].empty());
    for (const uint32_t i : fronts[f]) {
      CHECK(fronts.rank[i] == f);
      ++seen[i];
    }
  }
  CHECK(std::count(seen.begin(), seen.end(), 1) == 500);
  CHECK(sort_fronts({}, 3).size() == 0);
}

TEST_CASE("large sets of every shape: a chain, a line, copies, two layers of fifty thousand") {
  Rng rng(4);
  std::vector<Score> scores(4096);
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto v = static_cast<double>(i * 2654435761u % 4096);
    scores[i] = score({v, v, v});
  }
  CHECK(sort_fronts(scores, 3).size() == 4096);
  for (size_t i = 0; i < scores.size(); ++i) {
    const double y = rng.uniform_double();
    scores[i] = score({static_cast<double>(i), y, 1 - y});
  }
  CHECK(sort_fronts(scores, 3).size() == 1);
  for (Score& s : scores) s = score({1, 2, 3});
  CHECK(sort_fronts(scores, 3).size() == 1);

  std::vector<Score> layers(100'000);
  for (size_t i = 0; i < layers.size(); i += 2) {
    const double a = rng.uniform_double(), b = rng.uniform_double() * (1 - a);
    layers[i] = score({a, b, 1 - a - b});
    layers[i + 1] = score({a + 1, b + 1, 2 - a - b});
  }
  const Fronts fronts = sort_fronts(layers, 3);
  REQUIRE(fronts.size() == 2);
  CHECK(std::all_of(fronts[0].begin(), fronts[0].end(), [](uint32_t i) { return i % 2 == 0; }));
  CHECK(fronts[0].size() == 50'000);
}

TEST_CASE("crowding is the gap between neighbours as a share of the extent, summed over objectives") {
  const std::vector<Score> scores = {score({0, 8}), score({9, 9}), score({4, 0}), score({1, 4}), score({3, 1})};
  const std::vector<uint32_t> front = {0, 2, 3, 4};  // index 1 is of another front
  const std::vector<double> distance = crowding_distances(scores, front, 2);
  CHECK(distance[0] == kInfinity);
  CHECK(distance[1] == kInfinity);
  CHECK(distance[2] == doctest::Approx(3.0 / 4 + 7.0 / 8));
  CHECK(distance[3] == doctest::Approx(3.0 / 4 + 4.0 / 8));
}

TEST_CASE("copies on a front are worth nothing, and an objective in which all agree says nothing") {
  const std::vector<Score> scores = {score({1, 1, 5}), score({0, 2, 5}), score({1, 1, 5}), score({2, 0, 5}), score({1, 1, 5})};
  const std::vector<uint32_t> front = {0, 1, 2, 3, 4};
  CHECK(crowding_distances(scores, front, 3) == std::vector<double>{2, kInfinity, 0, kInfinity, 0});
  const std::vector<uint32_t> twins = {0, 2};
  CHECK(crowding_distances(scores, twins, 3) == std::vector<double>{kInfinity, 0});
}

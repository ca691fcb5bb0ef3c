#include "evolution/weighted_sum.h"

#include <doctest/doctest.h>

#include <limits>

#include "core/rng.h"
#include "evolution/selections.h"

using namespace moe;

TEST_CASE("a weighted sum adds shares of the baseline and keeps the violation") {
  const double weights[] = {1, 0.1, 0}, baseline[] = {2, -50, 0};
  const auto sum = WeightedSum::make(weights, baseline);
  REQUIRE(sum.ok());
  Score score;
  score.values = {1, 25, 99};
  score.violation = 0.25;
  const Score one = (*sum)(score);
  CHECK(one.values[0] == doctest::Approx(0.5 + 0.1 * 0.5));
  CHECK(one.violation == 0.25);
}

TEST_CASE("the ranking does not depend on the units: milliseconds or seconds, bytes or gigabytes") {
  const double weights[] = {1, 0.3, 0.05};
  Rng rng(1);
  std::vector<Score> scores(500), rescaled(500);
  const double baseline[] = {2.5, 40, 6e9};
  const double scale[] = {1, 1e-3, 1e-9};
  double rescaled_baseline[3];
  for (int m = 0; m < 3; ++m) rescaled_baseline[m] = baseline[m] * scale[m];
  const WeightedSum before = WeightedSum::make(weights, baseline).value();
  const WeightedSum after = WeightedSum::make(weights, rescaled_baseline).value();
  for (size_t i = 0; i < scores.size(); ++i) {
    Score a, b;
    for (int m = 0; m < 3; ++m) {
      a.values[m] = baseline[m] * (0.5 + rng.uniform_double());
      b.values[m] = a.values[m] * scale[m];
    }
    scores[i] = before(a);
    rescaled[i] = after(b);
  }
  CHECK(order_by_first_objective(scores) == order_by_first_objective(rescaled));
}

TEST_CASE("weights and baselines that cannot be meant are refused with the objective's number") {
  const double infinity = std::numeric_limits<double>::infinity();
  const auto make = [](std::vector<double> weights, std::vector<double> baseline) {
    return WeightedSum::make(weights, baseline).status();
  };
  CHECK(make({1, 1}, {1, 1}).ok());
  CHECK_FALSE(make({1, 1}, {1}).ok());
  CHECK_FALSE(make({}, {}).ok());
  CHECK_FALSE(make({0, 0}, {1, 1}).ok());
  CHECK_FALSE(make({1, infinity}, {1, 1}).ok());
  CHECK(make({1, -0.1}, {1, 1}).message() == "weighted sum: objective 1: wanted a weight of 0 or more, found -0.100000");
  CHECK(make({1, 1}, {1, 0}).message() ==
        "weighted sum: objective 1: wanted a baseline that can be divided by, found 0.000000");
}

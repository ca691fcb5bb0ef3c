#include "evolution/indicators.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/rng.h"
#include "tests/evolution/problems.h"

using namespace moe;
using namespace moe::test;

namespace {

Objectives filled(double value) {
  Objectives o{};
  o.fill(value);
  return o;
}

// Σ over non-empty subsets of (−1)^(size + 1) · the box that all of it dominate together.
double volume_by_inclusion_and_exclusion(const std::vector<Objectives>& points, const Objectives& reference, int m) {
  double volume = 0;
  for (uint32_t subset = 1; subset < 1u << points.size(); ++subset) {
    double box = 1;
    for (int k = 0; k < m; ++k) {
      double corner = -1e9;
      for (size_t i = 0; i < points.size(); ++i)
        if (subset >> i & 1) corner = std::max(corner, points[i][k]);
      box *= std::max(reference[k] - corner, 0.0);
    }
    volume += __builtin_popcount(subset) % 2 == 1 ? box : -box;
  }
  return volume;
}

}  // namespace

TEST_CASE("hypervolume is what inclusion and exclusion gives, for 1 to 7 objectives, with ties and points out of reach") {
  for (int m = 1; m <= 7; ++m)
    for (uint64_t trial = 0; trial < 12; ++trial) {
      Rng rng(trial, static_cast<uint64_t>(m));
      std::vector<Objectives> points(1 + rng.below(8));
      for (Objectives& p : points)
        for (int k = 0; k < m; ++k) p[k] = trial % 2 == 0 ? 1.2 * rng.uniform_double() : static_cast<double>(rng.below(4)) / 3;
      const Objectives reference = filled(1);
      CAPTURE(m);
      CAPTURE(trial);
      const double expected = volume_by_inclusion_and_exclusion(points, reference, m);
      CHECK(hypervolume(points, reference, m) == doctest::Approx(expected).epsilon(1e-12));
    }
}

TEST_CASE("hypervolume of nothing, of points at the reference, and of the whole box") {
  const Objectives reference = filled(2);
  CHECK(hypervolume({}, reference, 3) == 0);
  const std::vector<Objectives> at = {filled(2)}, all = {filled(0)};
  for (int m = 1; m <= 6; ++m) {
    CHECK(hypervolume(at, reference, m) == 0);
    CHECK(hypervolume(all, reference, m) == std::pow(2.0, m));
  }
}

TEST_CASE("an objective in which all points agree multiplies the hypervolume") {
  Rng rng(5);
  std::vector<Objectives> points(60);
  for (Objectives& p : points) {
    for (int k = 0; k < 3; ++k) p[k] = rng.uniform_double();
    p[3] = p[4] = 0.25;
  }
  const double volume = hypervolume(points, filled(1), 3);
  CHECK(hypervolume(points, filled(1), 4) == doctest::Approx(volume * 0.75).epsilon(1e-12));
  CHECK(hypervolume(points, filled(1), 5) == doctest::Approx(volume * 0.75 * 0.75).epsilon(1e-12));
}

TEST_CASE("hypervolume of the true fronts of ZDT1, ZDT2 and ZDT3") {
  const Objectives reference = filled(1.1);
  CHECK(hypervolume(zdt_front(kZdt1, 50'000), reference, 2) == doctest::Approx(0.87666).epsilon(3e-5));
  CHECK(hypervolume(zdt_front(kZdt2, 50'000), reference, 2) == doctest::Approx(0.54333).epsilon(3e-5));
  CHECK(hypervolume(zdt_front(kZdt3, 50'000), reference, 2) == doctest::Approx(1.33176).epsilon(3e-5));
  CHECK(hypervolume(zdt_front(kZdt1, 50'000), filled(11), 2) == doctest::Approx(120.6667).epsilon(1e-6));
}

TEST_CASE("distances between fronts, by hand") {
  const std::vector<Objectives> truth = {{0, 4}, {3, 0}}, found = {{0, 4}, {3, 5}, {6, 8}};
  CHECK(inverted_generational_distance(found, truth, 2) == doctest::Approx((0 + 5) / 2.0));       // (3,0): 5 to both
  CHECK(inverted_generational_distance_plus(found, truth, 2) == doctest::Approx((0 + 4) / 2.0));  // (0,4) is 4 too high there
  CHECK(generational_distance(found, truth, 2) == doctest::Approx((0 + std::sqrt(10) + std::sqrt(52)) / 3));
}

TEST_CASE("a front that dominates the true one is at no IGD+ distance, though at an IGD distance") {
  const std::vector<Objectives> truth = {{1, 2}, {2, 1}}, better = {{0.5, 0.5}};
  CHECK(inverted_generational_distance_plus(better, truth, 2) == 0);
  CHECK(inverted_generational_distance(better, truth, 2) > 1);
}

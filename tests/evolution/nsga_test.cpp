// Short versions of `make bench-evolution`, and what only NSGA-II and NSGA-III promise.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "evolution/algorithm.h"
#include "evolution/indicators.h"
#include "evolution/streams.h"
#include "tests/evolution/problems.h"

using namespace moe;
using namespace moe::test;

namespace {

std::unique_ptr<Algorithm> make(const char* name, int n_objectives, uint64_t seed, uint32_t population, int divisions = 0) {
  AlgorithmOptions options;
  options.seed = seed;
  options.n_objectives = n_objectives;
  options.population = population;
  options.divisions = divisions;
  return make_algorithm(name, options).value();
}

double volume_after(const RealProblem& problem, uint32_t generations) {
  std::vector<double> volumes;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    RealSearch search(problem, make("nsga2", 2, seed, 100));
    search.step_to(generations);
    volumes.push_back(hypervolume(search.objectives(), Objectives{1.1, 1.1}, 2));
  }
  return median(volumes);
}

double distance_after(const char* name, const RealProblem& problem, double index, uint32_t generations) {
  std::vector<double> distances;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    RealSearch search(problem, make(name, 3, seed, 92, name == std::string("nsga3") ? 12 : 0), {index, 20});
    search.step_to(generations);
    distances.push_back(inverted_generational_distance(search.objectives(), dtlz_targets(problem), 3));
  }
  return median(distances);
}

uint64_t hash_of(const std::vector<Objectives>& points) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const Objectives& p : points)
    for (const double v : p) {
      uint64_t bits;
      std::memcpy(&bits, &v, sizeof bits);
      hash = (hash ^ bits) * 0x100000001b3u;
    }
  return hash;
}

}  // namespace

TEST_CASE("NSGA-II reaches the fronts of ZDT1, ZDT2 and ZDT3") {
  CHECK(volume_after(kZdt1, 200) >= 0.867);
  CHECK(volume_after(kZdt2, 200) >= 0.533);
  CHECK(volume_after(kZdt3, 200) >= 1.324);
}

TEST_CASE("NSGA-III reaches the targets of DTLZ2 and DTLZ1 ten times closer than NSGA-II") {
  const double sphere = distance_after("nsga3", kDtlz2, 30, 250);
  CHECK(sphere <= 2e-3);
  CHECK(distance_after("nsga2", kDtlz2, 15, 250) >= 10 * sphere);
  CHECK(distance_after("nsga3", kDtlz1, 30, 400) <= 3e-3);
}

TEST_CASE("the same seed gives the same bits, on every platform") {
  RealSearch two(kZdt3, make("nsga2", 2, 5, 40)), three(kDtlz2, make("nsga3", 3, 5, 40), {30, 20});
  two.step_to(30);
  three.step_to(30);
  CHECK(hash_of(two.objectives()) == 0xbf8d2548d2e77f82u);
  CHECK(hash_of(three.objectives()) == 0x9878283c0eddff80u);
}

TEST_CASE("a search that begins infeasible becomes feasible and goes on to the constrained front") {
  // Minimise (x, 1 − x) + distance from the line; feasible from x = 0.4 to 0.6 and close to the line.
  for (const char* name : {"nsga2", "nsga3"}) {
    CAPTURE(name);
    const auto algorithm = make(name, 2, 3, 40);
    const auto score_of = [](const RealVector& x) {
      Score s;
      const double off = x[1] + x[2];
      s.values = {x[0] + off, 1 - x[0] + off};
      s.violation = std::max({0.0, 0.4 - x[0], x[0] - 0.6, off - 0.1});
      return s;
    };
    std::vector<RealVector> population, next;
    std::vector<Score> scores;
    for (uint32_t i = 0; i < 40; ++i) {
      Rng rng = stream_of(3, Purpose::kFirstPopulation, 0, i);
      population.push_back({0.3 * rng.uniform_double(), 0.5 + 0.5 * rng.uniform_double(), rng.uniform_double()});
      scores.push_back(score_of(population.back()));
      CHECK_FALSE(scores.back().feasible());
    }
    REQUIRE(algorithm->tell(scores).ok());
    for (uint32_t i = 0; i < 40; ++i) next.push_back(population[algorithm->survivors()[i]]);
    population = next;
    for (uint32_t g = 1; g <= 120; ++g) {
      std::vector<RealVector> all = population;
      scores.clear();
      for (const Mating& mating : algorithm->ask()) {
        Rng rng = stream_of(3, Purpose::kMutation, g, static_cast<uint32_t>(all.size()));
        RealVector child = cross(population[mating.mother], population[mating.father], 15, rng);
        mutate(child, 20, rng);
        scores.push_back(score_of(child));
        all.push_back(std::move(child));
      }
      REQUIRE(algorithm->tell(scores).ok());
      next.clear();
      for (const uint32_t i : algorithm->survivors()) next.push_back(all[i]);
      population = next;
    }
    for (const Score& s : algorithm->population()) {
      CHECK(s.feasible());
      CHECK(s.values[0] + s.values[1] < 1.05);
    }
    const auto [least, most] = std::minmax_element(population.begin(), population.end());
    CHECK((*least)[0] < 0.41);
    CHECK((*most)[0] > 0.59);
  }
}

TEST_CASE("neither decides otherwise when an objective comes in another unit") {
  for (const char* name : {"nsga2", "nsga3"}) {
    CAPTURE(name);
    const auto plain = make(name, 3, 9, 60), scaled = make(name, 3, 9, 60);
    for (uint32_t g = 0; g < 8; ++g) {
      Rng rng(4, g);
      std::vector<Score> scores(60), others(60);
      for (size_t i = 0; i < 60; ++i) {
        for (int m = 0; m < 3; ++m) scores[i].values[m] = rng.uniform_double();
        others[i].values = {scores[i].values[0] * 0x1p30, scores[i].values[1], scores[i].values[2] * 0x1p-30};
      }
      REQUIRE(plain->tell(scores).ok());
      REQUIRE(scaled->tell(others).ok());
      CHECK(std::ranges::equal(plain->survivors(), scaled->survivors()));
    }
  }
}

TEST_CASE("NSGA-III survives fronts without extent: all alike, a line, one slot an objective") {
  AlgorithmOptions options;
  options.n_objectives = 4;
  options.population = 4;
  options.children = 9;
  const auto algorithm = make_algorithm("nsga3", options).value();
  REQUIRE(algorithm->tell(std::vector<Score>(4)).ok());
  for (int g = 0; g < 5; ++g) REQUIRE(algorithm->tell(std::vector<Score>(9)).ok());
  std::vector<Score> line(9);
  for (size_t i = 0; i < 9; ++i) line[i].values = {static_cast<double>(i) - 8, -static_cast<double>(i), -1, -1};
  for (int g = 0; g < 5; ++g) REQUIRE(algorithm->tell(line).ok());
  for (const Score& s : algorithm->population()) CHECK(s.values[2] == -1);
}

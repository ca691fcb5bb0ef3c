#include "evolution/reference_points.h"

#include <doctest/doctest.h>

#include <numeric>
#include <set>

using namespace moe;

namespace {

void check_points(const std::vector<Objectives>& points, int m) {
  for (const Objectives& p : points) {
    CHECK(std::accumulate(p.begin(), p.begin() + m, 0.0) == doctest::Approx(1));
    for (int k = 0; k < m; ++k) CHECK(p[k] >= 0);
  }
  CHECK(std::set(points.begin(), points.end()).size() == points.size());
}

}  // namespace

TEST_CASE("Das-Dennis points: C(p + m - 1, m - 1) different ones that sum to 1") {
  struct Case {
    int m, divisions;
    size_t n;
  };
  for (const Case& c : {Case{2, 99, 100}, Case{3, 12, 91}, Case{3, 1, 3}, Case{5, 6, 210}, Case{12, 2, 78}}) {
    const auto points = das_dennis_points(c.m, c.divisions);
    REQUIRE(points.ok());
    CHECK(points->size() == c.n);
    check_points(*points, c.m);
  }
}

TEST_CASE("as many reference points as there is room for, with a layer inside where the outer one has only a rim") {
  CHECK(reference_points_for(3, 100).size() == 91);
  CHECK(reference_points_for(2, 100).size() == 100);
  CHECK(reference_points_for(3, 2).empty());
  const std::vector<Objectives> layers = reference_points_for(8, 156);
  CHECK(layers.size() == 120 + 36);  // 3 divisions, 2 divisions
  check_points(layers, 8);
  CHECK(layers.back()[7] > 0);
}

TEST_CASE("reference points that nobody could hold are refused") {
  CHECK_FALSE(das_dennis_points(12, 40).ok());
  CHECK_FALSE(das_dennis_points(3, 0).ok());
  CHECK_FALSE(das_dennis_points(1, 4).ok());
  CHECK_FALSE(das_dennis_points(13, 4).ok());
  CHECK(das_dennis_points(12, 40).status().message().find("million") != std::string::npos);
}

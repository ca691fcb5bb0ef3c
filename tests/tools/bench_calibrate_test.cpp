#include "tools/bench_calibrate.h"

#include <doctest/doctest.h>

#include <set>

#include "tests/models/model_fixture.h"

using namespace moe;
using namespace moe::test;
using namespace moe::tools;

TEST_CASE("calibration: twelve topologies and more to fit, others held back, all valid and different") {
  RoutingShape shape;
  shape.model_hash = 5, shape.n_vocab = 10;
  shape.layers = {{}, {8, 4, 128, 32}, {8, 4, 128, 32}, {16, 2, 96, 1, 4, 2}};
  const std::vector<CalibrationPoint> points = calibration_points(shape, 1);
  std::set<uint64_t> seen;
  int fitted = 0, held_back = 0;
  for (const CalibrationPoint& p : points) {
    CAPTURE(p.name);
    CHECK(validate(p.topology, shape).ok());
    CHECK(seen.insert(hash(p.topology)).second);
    ++(p.held_back ? held_back : fitted);
  }
  CHECK(fitted >= 12);
  CHECK(held_back >= 4);
}

TEST_CASE("calibration: costs of decoded tokens count the experts that they used") {
  const std::unique_ptr<Model> model = load_model(reference_path("olmoe"));
  const RoutingShape& shape = model->routing_shape();
  const Result<ModelCosts> costs = ModelCosts::of(*model);
  REQUIRE(costs.ok());
  auto clock = DecodeClock::create(*model, {8, 4, 1});
  REQUIRE(clock.ok());
  for (const int k : {1, shape.layers[0].k}) {
    const RoutingTopology t = with_k(full_topology(shape), shape, k);
    const Result<Evaluation> e = (*clock)->cost(*costs, t);
    REQUIRE(e.ok());
    CHECK(e->k_mean == doctest::Approx(k));
    std::vector<double> ms;
    REQUIRE((*clock)->time(t, ms).ok());
    CHECK(ms.size() == 8);
  }
  RoutingTopology skipped = full_topology(shape);
  skipped.layers[0].k_min = skipped.layers[0].k_max = 0;
  const Result<Evaluation> e = (*clock)->cost(*costs, skipped);
  REQUIRE(e.ok());
  CHECK(e->k_mean == doctest::Approx(shape.layers[1].k / 2.0));
  CHECK(e->expert_flops > 0);
}

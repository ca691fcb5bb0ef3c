#include "tools/evolve_devices.h"

#include <doctest/doctest.h>

#include "tests/evolution/search_fixture.h"
#include "tools/evolve_measure.h"

using namespace moe;
using namespace moe::tools;

namespace {

// A machine that only reads, or only multiplies: milliseconds are gigabytes, or GFLOPs.
DeviceProfile device(const char* name, double per_byte, double per_flop) {
  DeviceProfile d;
  d.name = name;
  d.latency.n_measured = 4;
  d.latency.ms_per_gigabyte = per_byte, d.latency.ms_per_gigaflop = per_flop;
  return d;
}

Candidate candidate(double kl, double bytes, double flops, double resident = 1e9) {
  Candidate c;
  c.evaluation.kl = kl, c.evaluation.bytes_per_token = bytes, c.evaluation.active_flops = flops;
  c.evaluation.resident_bytes = resident, c.evaluation.k_mean = 2, c.evaluation.latency_ms = 1;
  return c;
}

EvolveConfig latency_config() {
  EvolveConfig config;
  config.objectives = {{"kl", {}}, {"latency", {}}};
  return config;
}

using Indices = std::vector<size_t>;

Indices front(const std::vector<Candidate>& all, const DeviceProfile& d, size_t most = 9) {
  const auto set = objectives_for(latency_config(), &d);
  REQUIRE(set.ok());
  const auto found = device_front(all, *set, d, test::planted_shape(2), most);
  REQUIRE(found.ok());
  return *found;
}

}  // namespace

TEST_CASE("devices: of the same candidates each device has a front of its own") {
  const std::vector<Candidate> all = {candidate(0.3, 1e9, 4e9), candidate(0.1, 4e9, 3e9), candidate(0.2, 3e9, 4e9),
                                      candidate(0.3, 1e9, 4e9), candidate(0.25, 5e9, 1e9)};
  CHECK(front(all, device("reads", 1, 0)) == Indices{1, 2, 0});
  CHECK(front(all, device("multiplies", 0, 1)) == Indices{1, 4});  // the third takes as long as the first, and is worse than 1
  CHECK(front(all, device("reads", 1, 0), 2).size() == 2);
}

TEST_CASE("devices: each keeps its own limits") {
  const std::vector<Candidate> all = {candidate(0.1, 4e9, 1, 4e9), candidate(0.2, 3e9, 1, 3e9), candidate(0.3, 1e9, 1, 1e9)};
  DeviceProfile d = device("small", 1, 0);
  d.memory_bytes = 3.5e9;
  CHECK(front(all, d) == Indices{1, 2});
  d.target_latency_ms = 2;
  CHECK(front(all, d) == Indices{2});
  d.target_latency_ms = 0.5;
  CHECK(front(all, d).empty());
}

TEST_CASE("devices: a search for several refuses what all of them would, and leaves latency to the end") {
  DeviceProfile small = device("small", 1, 0), large = device("large", 1, 0);
  small.memory_bytes = 1e9, small.target_latency_ms = 5, large.memory_bytes = 4e9;
  const std::vector<DeviceProfile> both = {small, large};
  const auto set = search_objectives(latency_config(), both);
  REQUIRE(set.ok());
  REQUIRE(set->limits.size() == 1);
  CHECK(std::string(set->limits[0].objective->name) == "resident-bytes");
  CHECK(set->limits[0].limit == 4e9);
  const auto one = search_objectives(latency_config(), std::span(both).first(1));
  REQUIRE(one.ok());
  CHECK(one->limits.size() == 2);
}

TEST_CASE("devices: files are named after them, and names that would share a file are refused") {
  CHECK(device_front_name(device("edge", 1, 0)) == "front-edge.json");
  CHECK(device_front_name(device("a/b c", 1, 0)) == "front-a_b_c.json");
  EvolveConfig config;
  config.device = "edge,server";
  const auto devices = devices_of(config);
  REQUIRE(devices.ok());
  CHECK((*devices)[1].name == "server");
  config.device = "edge,edge";
  CHECK(devices_of(config).status().message().find("wanted different names") != std::string::npos);
}

TEST_CASE("devices: what a replay recalls is remembered as what was measured") {
  test::PlantedSearch::Setup setup;
  setup.objectives = {"kl", "kept-share"}, setup.generations = 5;
  test::PlantedSearch planted(setup), again(setup);
  const auto search_of = [](test::PlantedSearch& p, Evaluator& log) {
    auto s = Search::create(p.search->space(), p.search->variation(), p.search->objectives(), p.search->options(), {}, p.pool,
                            log, p.threads);
    REQUIRE(s.ok());
    return std::move(s).value();
  };
  ConfirmedLog first(planted.truth), second(again.truth);
  const auto whole = search_of(planted, first), parts = search_of(again, second);
  for (int g = 0; g < 5; ++g) {
    const auto record = whole->step(0);
    REQUIRE(record.ok());
    if (g >= 3) {
      REQUIRE(parts->step(0).ok());
      continue;
    }
    REQUIRE(parts->replay(*record).ok());
    second.replayed(*record);
  }
  REQUIRE(first.candidates().size() > 4);
  REQUIRE(second.candidates().size() == first.candidates().size());
  for (size_t i = 0; i < first.candidates().size(); ++i) {
    CHECK(hash(second.candidates()[i].genome) == hash(first.candidates()[i].genome));
    CHECK(second.candidates()[i].evaluation.kl == first.candidates()[i].evaluation.kl);
  }
}

TEST_CASE("measuring: points are spread over the front, its ends among them") {
  CHECK(evenly(10, 4) == Indices{0, 3, 6, 9});
  CHECK(evenly(3, 64) == Indices{0, 1, 2});
  CHECK(evenly(5, 1) == Indices{0});
  CHECK(evenly(0, 4).empty());
}

#include "tools/front_pick.h"

#include <doctest/doctest.h>

#include "models/routing.h"
#include "tests/temp_folder.h"
#include "tools/byte_size.h"
#include "tools/device_file.h"

using namespace moe;
using namespace moe::tools;

namespace {

FrontPoint point(const char* name, double kl, double ms, double bytes, double kept) {
  FrontPoint p;
  p.name = name, p.topology = std::string(name) + ".json";
  p.held_out.kl = kl, p.costs.latency_ms = ms, p.costs.resident_bytes = bytes, p.costs.kept_share = kept;
  return p;
}

FrontFile front() {
  FrontFile f;
  f.model.hash = 9;
  f.full = point("full", 0, 10, 8e9, 1);
  f.full.topology.clear();
  f.points = {point("p00", 0.1, 8, 6e9, 0.75), point("p01", 0.2, 6, 5e9, 0.5), point("p02", 0.4, 5, 3e9, 0.5)};
  f.baselines = {point("reap", 0.05, 5, 3e9, 0.5)};
  return f;
}

FrontWish wish(std::optional<double> ms, const std::string& memory = "", const std::string& kept = "") {
  return {"f/front.json", "", ms, memory, kept};
}

std::string chosen(const FrontWish& w, const FrontFile& f = front()) {
  const Result<FrontChoice> c = choose_point(f, w);
  return c.ok() ? c->name : c.status().message();
}

}  // namespace

TEST_CASE("front pick: the closest point to the full model within all limits") {
  CHECK(chosen(wish(10)) == "full");
  CHECK(chosen(wish(9.99)) == "p00");
  CHECK(chosen(wish(7)) == "p01");
  CHECK(chosen(wish({}, "5.5GB")) == "p01");
  CHECK(chosen(wish({}, "3 gb")) == "p02");
  CHECK(chosen(wish(7, "4GB")) == "p02");
  CHECK(chosen(wish({}, "", "50%")) == "p01");
  const Result<FrontChoice> c = choose_point(front(), wish(7));
  REQUIRE(c.ok());
  CHECK(c->topology == "f/p01.json");
  CHECK(c->model_hash == 9);
  CHECK(
      c->why ==
      "p01: kl 0.2000 nats a token on held-out text, the smallest of 2 with at most 7.000 ms a token (of 4), 6.000 ms a token");
}

TEST_CASE("front pick: a measured latency counts before the modelled one of a front for no device") {
  FrontFile f = front();
  f.points[1].measured = FrontPoint::Measured{125, 1};  // 8 ms
  CHECK(chosen(wish(7), f) == "p02");
  f.device = shipped_devices()[0];  // a measurement says nothing of another machine
  CHECK(chosen(wish(7), f) == "p01");
}

TEST_CASE("front pick: where nothing satisfies a wish the nearest point is named") {
  CHECK(chosen(wish(4)) ==
        "f/front.json: wanted a point with at most 4.000 ms a token, found none; nearest is p02, 5.000 ms a token, kl 0.4000 "
        "nats a token on held-out text");
  FrontFile f = front();
  for (FrontPoint& p : f.points) p.costs.latency_ms = kNotMeasured;
  f.full.costs.latency_ms = kNotMeasured;
  CHECK(chosen(wish(4), f).find("moe-evolve --device-profile") != std::string::npos);
}

TEST_CASE("front pick: points by name, baselines too") {
  FrontWish w = wish({});
  w.point = "reap";
  CHECK(chosen(w) == "reap");
  w.point = "p99";
  CHECK(chosen(w) == "f/front.json: --point: wanted one of p00, p01, p02, reap, found 'p99'");
}

TEST_CASE("front pick: a number of experts is of a layer, which topologies know") {
  const test::TempFolder folder;
  RoutingTopology t;
  t.layers.resize(2);
  t.layers[1].n_experts = 8, t.layers[1].k_min = t.layers[1].k_max = 2, t.layers[1].allow.assign(8, 1);
  REQUIRE(save_topology(t, folder / "p00.json").ok());
  FrontWish w = wish({}, "", "4");
  CHECK(chosen(w).find("p0") != std::string::npos);
  w.front = folder / "front.json";
  CHECK(chosen(w) == "p01");
  w.kept = "6";
  CHECK(chosen(w) == "p00");
}

TEST_CASE("sizes: units of 1000 and of 1024, anything else refused") {
  CHECK(*parse_bytes("2GB") == 2e9);
  CHECK(*parse_bytes("500 mb") == 5e8);
  CHECK(*parse_bytes("1.5GiB") == 1.5 * 1024 * 1024 * 1024);
  CHECK(*parse_bytes("4096") == 4096);
  CHECK(*parse_bytes("3k") == 3000);
  CHECK(*parse_bytes("7B") == 7);
  for (const char* bad : {"", "GB", "-1GB", "0", "2XB", "2GBB", "nan", "inf", "1e999", "2iB"}) {
    CAPTURE(std::string(bad));
    CHECK_FALSE(parse_bytes(bad).ok());
  }
}

TEST_CASE("device files: by shipped name or from a file, and what they say of themselves") {
  const test::TempFolder folder;
  REQUIRE(read_device("edge").ok());
  CHECK(device_text(*read_device("edge")).find("modelled from its rates") != std::string::npos);
  CHECK(read_device("desktop").status().message().find("edge, mobile, server") != std::string::npos);
  REQUIRE(write_device(*read_device("mobile"), folder / "d.json").ok());
  CHECK(read_device(folder / "d.json")->name == "mobile");
  CHECK(read_device(folder.write("bad.json", "{}")).status().message().starts_with(folder / "bad.json"));
}

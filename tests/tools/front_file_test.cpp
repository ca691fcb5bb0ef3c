#include "tools/front_file.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/file.h"
#include "tests/temp_folder.h"

using namespace moe;
using namespace moe::tools;

namespace {

FrontPoint point(const std::string& name, double kl) {
  FrontPoint p;
  p.name = name;
  p.topology = name + ".json";
  p.hash = 0xfedcba9876543210;
  p.selection = {{"bytes-per-token", 1e7}, {"kl", kl}};
  p.held_out.kl = kl + 0.1, p.held_out.perplexity = 1 / 3.0;
  p.held_out.domain_kl = {{"code", 0.25}, {"wiki \"</script>", 0.5}};
  p.costs.active_flops = 123456789, p.costs.k_mean = 2.5;
  p.measured = FrontPoint::Measured{100.5, 1e6};
  return p;
}

FrontFile front() {
  FrontFile f;
  f.model = {"m.gguf", 7, 18.5e6};
  f.seed = UINT64_MAX;
  f.algorithm = "nsga2";
  f.device = shipped_devices()[1];
  f.objectives = {{"kl", "nats", false}, {"accuracy", "", true}};
  f.texts = {{"wiki", 1000, 600, 200, 200}};
  f.full.name = "full";
  f.baselines = {point("reap 50 %", 0.5)};
  f.points = {point("p00", 0.1), point("p01", 0.2)};
  f.points[1].measured.reset();
  f.points[1].topology.clear();
  f.spent = {1e9, 10, 400, 12.5};
  return f;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string refusal(const std::string& text) {
  const Result<FrontFile> f = front_from_json(text);
  return f.ok() ? "" : f.status().message();
}

}  // namespace

TEST_CASE("front file: what is written reads back, what was not measured as NaN") {
  const std::string text = to_json(front());
  const Result<FrontFile> back = front_from_json(text);
  REQUIRE(back.ok());
  CHECK(to_json(*back) == text);
  CHECK(back->seed == UINT64_MAX);
  CHECK(back->model.hash == 7);
  REQUIRE(back->device);
  CHECK(back->device->name == "mobile");
  REQUIRE(back->points.size() == 2);
  CHECK(back->points[0].held_out.perplexity == 1 / 3.0);
  CHECK(std::isnan(back->points[0].costs.latency_ms));
  CHECK(back->points[0].measured->tokens_per_s == 100.5);
  CHECK_FALSE(back->points[1].measured);
  CHECK(back->points[1].topology == "");
  CHECK(back->points[0].held_out.domain_kl[1].first == "wiki \"</script>");
  CHECK(back->full.name == "full");
}

TEST_CASE("front file: files are found by their own path, and errors name it") {
  const test::TempFolder folder;
  const std::string path = folder / "front.json";
  REQUIRE(write_front(front(), path).ok());
  const Result<FrontFile> back = read_front(path);
  REQUIRE(back.ok());
  CHECK(topology_path(path, back->points[0]) == folder / "p00.json");
  REQUIRE(write_text_file(path, "{}").ok());
  CHECK(read_front(path).status().message() == path + ": front JSON: document: wanted the key \"format\", found none");
}

TEST_CASE("front file: hostile files are refused with path, wanted and found") {
  const std::string text = to_json(front());
  CHECK(refusal(replaced(text, "\"p00.json\"", "\"../p00.json\"")) ==
        "front JSON: points[0].topology: wanted a path below the file's folder, found \"../p00.json\"");
  CHECK(refusal(replaced(text, "\"p00.json\"", "\"/etc/passwd\"")) != "");
  CHECK(refusal(replaced(text, "\"p00.json\"", "\"a/../../b\"")) != "");
  CHECK(refusal(replaced(text, "\"p00.json\"", "3")) != "");
  CHECK(refusal(replaced(text, "\"fedcba9876543210\"", "\"fedc\"")) ==
        "front JSON: baselines[0].hash: wanted 16 hexadecimal digits, found \"fedc\"");
  CHECK(refusal(replaced(text, "\"moe-front\"", "\"moe\"")) == "front JSON: format: wanted \"moe-front\", found \"moe\"");
  CHECK(refusal(replaced(text, "\"k_mean\":2.5", "\"k_mean\":\"x\"")) ==
        "front JSON: baselines[0].costs.k_mean: wanted a number, found \"x\"");
  CHECK(refusal(replaced(text, "\"threads\":4", "\"threads\":-4")).starts_with("front JSON: device: "));
  CHECK(refusal(replaced(text, "\"tokens\":1000", "\"tokens\":-1")) != "");
  for (size_t n = 0; n + 2 < text.size(); n += 7) {
    if (refusal(text.substr(0, n)).empty()) FAIL("half a front was read: ", n);
  }
}

TEST_CASE("front file: an evaluator's numbers become a point's") {
  Evaluation e;
  e.kl = 0.5, e.nll = 2, e.domain_kl = {0.25, 0.75}, e.resident_bytes = 3e6;
  const std::vector<std::string> domains = {"a", "b"};
  const FrontPoint::HeldOut h = held_out_of(e, domains);
  CHECK(h.kl == 0.5);
  CHECK(h.perplexity == doctest::Approx(std::exp(2.0)));
  CHECK(h.domain_kl == NamedValues{{"a", 0.25}, {"b", 0.75}});
  CHECK(costs_of(e).resident_bytes == 3e6);
  CHECK(std::isnan(costs_of(e).k_mean));
}

#include "models/routing_stats.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/allocation_count.h"
#include "tests/models/model_fixture.h"
#include "tests/models/small_model.h"

using namespace moe;

namespace {

// Layer 0 dense, layers 1 and 2 with four experts of 64 channels of which two are used.
RoutingShape shape() {
  RoutingShape s;
  s.model_hash = 0xabc, s.n_vocab = 16;
  s.layers.resize(3);
  for (size_t i : {1, 2}) s.layers[i] = {.n_experts = 4, .k = 2, .d_ff = 64};
  return s;
}

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights, logits;
};

void add(RoutingStats& stats, int layer, const Routed& r, int n_slots = 2) {
  stats.add({layer, static_cast<int>(r.ids.size()) / n_slots, 4, n_slots, r.ids.data(), r.weights.data(),
             r.logits.empty() ? nullptr : r.logits.data()});
}

// Three tokens a layer. Layer 1 uses experts 0 0 0 1 1 2, layer 2 drops a slot.
RoutingStats example() {
  RoutingStats stats(shape());
  add(stats, 1, {{0, 1, 0, 1, 0, 2}, {0.75f, 0.25f, 0.5f, 0.5f, 1, 0}, {}});
  add(stats, 2, {{3, 2, 3, -1, 3, 0}, {0.5f, 0.5f, 1, 0, 0.5f, 0.5f}, {}});
  return stats;
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

}  // namespace

TEST_CASE("use counts every slot with an expert, and weights add up by expert") {
  const RoutingStats stats = example();
  REQUIRE(stats.layers().size() == 3);
  CHECK(stats.layers()[0].n_experts == 0);
  const RoutingStats::Layer &a = stats.layers()[1], &b = stats.layers()[2];
  CHECK(a.use == std::vector<uint64_t>{3, 2, 1, 0});
  CHECK(a.weight == std::vector<double>{2.25, 0.75, 0, 0});
  CHECK(a.slots == 6);
  CHECK(a.tokens == 3);
  CHECK(b.use == std::vector<uint64_t>{1, 0, 1, 3});
  CHECK(b.slots == 5);
}

TEST_CASE("the summary of known routing is what its definitions say") {
  const RoutingStats::Summary s = example().summarize(full_topology(shape()));
  CHECK(s.tokens == 3);
  CHECK(s.k_mean == doctest::Approx((2 + 5 / 3.0) / 2));
  CHECK(s.work_mean == doctest::Approx(s.k_mean));
  CHECK(s.load_balance == doctest::Approx((3 / 1.5 + 3 / 1.25) / 2));
  const auto h = [](double p) { return -p * std::log(p); };
  const double h1 = h(3 / 6.0) + h(2 / 6.0) + h(1 / 6.0), h2 = h(1 / 5.0) + h(1 / 5.0) + h(3 / 5.0);
  CHECK(s.use_entropy == doctest::Approx((h1 + h2) / 2 / std::log(4)));
  CHECK(s.dead_experts == 2);
  CHECK(s.expert_flops_saved == doctest::Approx(1 / 12.0));
  CHECK(s.router_entropy == -1);
}

TEST_CASE("an expert of half the width costs half as much") {
  RoutingTopology t = full_topology(shape());
  t.layers[1].width = {32, 64, 64, 64};
  const RoutingStats::Summary s = example().summarize(t);
  CHECK(s.expert_flops_saved == doctest::Approx(1 - (1.5 + 2 + 1 + 5) / 12));
  CHECK(s.work_mean == doctest::Approx((4.5 / 3 + 5 / 3.0) / 2));
}

TEST_CASE("more experts than the model's own k are more work") {
  RoutingStats stats(shape());
  add(stats, 1, {{0, 1, 2}, {0.5f, 0.25f, 0.25f}, {}}, 3);
  CHECK(stats.summarize(full_topology(shape())).expert_flops_saved == doctest::Approx(-0.5));
}

TEST_CASE("router entropy is that of softmax over the logits, averaged over tokens") {
  RoutingStats stats(shape());
  const float inf = std::numeric_limits<float>::infinity();
  add(stats, 1, {{0, 1, 0, 1}, {1, 0, 1, 0}, {5, 5, 5, 5, 800, 800, -800, -800}});
  CHECK(stats.summarize(full_topology(shape())).router_entropy == doctest::Approx((std::log(4) + std::log(2)) / 2));
  stats.reset();
  add(stats, 1, {{0, 1}, {1, 0}, {1, -inf, -inf, -inf}});
  CHECK(stats.summarize(full_topology(shape())).router_entropy == doctest::Approx(0));
}

TEST_CASE("reset forgets everything") {
  RoutingStats stats = example();
  stats.reset();
  CHECK(stats.to_json(full_topology(shape())) == RoutingStats(shape()).to_json(full_topology(shape())));
}

TEST_CASE("the JSON says what summary and layers say") {
  const RoutingStats stats = example();
  const auto j = nlohmann::json::parse(stats.to_json(full_topology(shape())));
  CHECK(j["format"] == "moe-routing-stats");
  CHECK(j["model_hash"] == "0000000000000abc");
  CHECK(j["tokens"] == 3);
  CHECK(j["router_entropy"].is_null());
  REQUIRE(j["layers"].size() == 2);  // the dense one is left out
  CHECK(j["layers"][0]["layer"] == 1);
  CHECK(j["layers"][0]["use"] == nlohmann::json({3, 2, 1, 0}));
  CHECK(j["layers"][1]["k_mean"].get<double>() == doctest::Approx(5 / 3.0));
  CHECK(nlohmann::json::parse(RoutingStats(shape()).to_json(full_topology(shape())))["layers"].size() == 2);
}

TEST_CASE("the heat map has a line a routed layer, a cell an expert and a full cell for the busiest one") {
  const std::string map = example().heat_map(80, false);
  CHECK(count(map, "\n") == 3);  // two layers and the legend
  CHECK(map.find("layer   1  ██▓▓▒▒··  busiest 2.00 x mean, 1 unused\n") != std::string::npos);
  CHECK(map.find("layer   2  ▒▒··▒▒██  busiest 2.40 x mean, 1 unused\n") != std::string::npos);
  CHECK(example().heat_map(4, false).find("layer   1  █▓▒·  busiest") != std::string::npos);
}

TEST_CASE("a narrow heat map joins neighbours, and colour is switched off at every line's end") {
  const std::string narrow = example().heat_map(2, false);
  CHECK(narrow.find("2 experts a cell") != std::string::npos);
  CHECK(narrow.find("layer   1  █░  busiest") != std::string::npos);
  const std::string color = example().heat_map(80, true);
  CHECK(count(color, "\x1b[0m") == 3);
  CHECK(count(color, "\x1b[48;5;") == 4 + 4 + 8);
}

TEST_CASE("a dense model has no heat map, and an unused one can be drawn") {
  RoutingShape dense;
  dense.layers.resize(2);
  CHECK(RoutingStats(dense).heat_map(80, true).empty());
  CHECK(RoutingStats(dense).summarize(full_topology(dense)).k_mean == 0);
  CHECK(RoutingStats(shape()).heat_map(80, false).find("··") != std::string::npos);
}

TEST_CASE("a session's observer counts every token in every layer, in one batch as in many") {
  const auto model = test::small_model();
  const auto count_uses = [&](size_t step) {
    const auto session = test::new_session(*model, {.n_ctx = 64});
    RoutingStats stats(model->routing_shape());
    session->set_observer([&](const RouterView& view) { stats.add(view); });
    std::vector<BatchToken> batch;
    for (Token t = 0; t < 24; ++t) batch.push_back({t * 7 % 200, 0, false});
    for (size_t i = 0; i < batch.size(); i += step) REQUIRE(session->eval(std::span(batch).subspan(i, step)).ok());
    return stats;
  };
  const RoutingStats whole = count_uses(24), pieces = count_uses(1);
  for (size_t i = 0; i < whole.layers().size(); ++i) {
    const int k = model->routing_shape().layers[i].k;
    CHECK(whole.layers()[i].tokens == 24);
    CHECK(whole.layers()[i].slots == static_cast<uint64_t>(24 * k));
    CHECK(whole.layers()[i].use == pieces.layers()[i].use);
    double weight = 0;
    for (const double w : whole.layers()[i].weight) weight += w;
    CHECK(weight > 0);
  }
  CHECK(whole.layers()[0].use != whole.layers()[1].use);
}

TEST_CASE("counting allocates nothing") {
  RoutingStats stats(shape());
  const Routed r{{0, 1, 2, 3}, {0.5f, 0.5f, 0.5f, 0.5f}, {1, 2, 3, 4, 4, 3, 2, 1}};
  const uint64_t before = test::allocation_count();
  for (int i = 0; i < 100; ++i) add(stats, 1, r);
  CHECK(test::allocation_count() == before);
}

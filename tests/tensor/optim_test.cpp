#include "tensor/optim.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

constexpr ParameterRules kSeedRules{.expert_rate = 0.1f, .router_rate = 10, .decay_embeddings = false};

// embed, norm, router with bias and scaled logits, experts with biases, head.
struct SmallMoe : GraphFixture {
  std::vector<WeightGradient> weights;
  ValueId trained(const std::string& name, Shape shape, DType dtype = DType::kF32) {
    weights.push_back({weight(name, shape, dtype), kNone});
    return weights.back().weight;
  }
  SmallMoe() {
    const ValueId x = op(Op::kEmbed, {trained("table", {9, 4}), input("ids", {kTokens}, DType::kI32)});
    const ValueId h = op(Op::kRmsNorm, {x, trained("norm", {4})}, NormAttrs{.group = 4});
    const ValueId made = op(Op::kLinear, {h, trained("router", {3, 4}), trained("router_bias", {3})}, ScaleAttrs{});
    std::vector<ValueId> route_in = routing_tables(3);
    route_in.insert(route_in.begin(), {op(Op::kScale, {made}, ScaleAttrs{2}), kNone});
    op(Op::kRoute, route_in, RouteAttrs{.n_experts = 3, .k_capacity = 2});
    const ValueId ids = g.nodes.back().out[0], routed = g.nodes.back().out[1];
    const ValueId y =
        op(Op::kMoeLinear, {h, ids, trained("experts", {3, 4, 4}, DType::kBF16), trained("expert_biases", {3, 4})});
    op(Op::kLinear, {op(Op::kWeightedSum, {y, ids, routed}), trained("head", {9, 4})}, ScaleAttrs{});
  }
  Parameter parameter(const std::string& name, const ParameterRules& rules) const {
    for (const Parameter& p : parameters_of(g, weights, rules))
      if (p.name == name) return p;
    FAIL("no parameter " << name);
    return {};
  }
};

std::vector<Parameter> three_parameters() {
  return {{"a", {2, 3}, 1, true, false}, {"b", {4}, 1, false, true}, {"c", {5, 1}, 1, true, false}};
}

}  // namespace

TEST_CASE("parameters come in the order of their gradients, with copies of what the graph has as bfloat16") {
  const SmallMoe m;
  const std::vector<Parameter> p = parameters_of(m.g, m.weights, {});
  REQUIRE(p.size() == m.weights.size());
  for (size_t i = 0; i < p.size(); ++i) {
    CHECK(p[i].name == m.g.value(m.weights[i].weight).name);
    CHECK(p[i].shape == m.g.value(m.weights[i].weight).shape);
    CHECK(p[i].bf16_copy == (p[i].name == "experts"));
    CHECK(p[i].rate == 1);
  }
}

TEST_CASE("experts and the router learn at rates of their own") {
  const SmallMoe m;
  const auto rate = [&](const char* name) { return m.parameter(name, kSeedRules).rate; };
  for (const char* name : {"experts", "expert_biases"}) CHECK(rate(name) == 0.1f);
  for (const char* name : {"router", "router_bias"}) CHECK(rate(name) == 10);
  for (const char* name : {"table", "norm", "head"}) CHECK(rate(name) == 1);
}

TEST_CASE("norms and biases do not decay, embeddings by choice") {
  const SmallMoe m;
  const auto decays = [&](const char* name, const ParameterRules& r) { return m.parameter(name, r).decay; };
  for (const char* name : {"experts", "router", "head"}) CHECK(decays(name, kSeedRules));
  for (const char* name : {"expert_biases", "router_bias", "norm"}) CHECK_FALSE(decays(name, {}));
  CHECK(decays("table", {}));
  CHECK_FALSE(decays("table", kSeedRules));
}

TEST_CASE("a weight under several nodes has the use of all of them") {
  GraphFixture f;
  const ValueId table = f.weight("tied", {9, 4});
  const ValueId x = f.op(Op::kEmbed, {table, f.input("ids", {kTokens}, DType::kI32)});
  f.op(Op::kLinear, {x, table}, ScaleAttrs{});
  const WeightGradient w{table, kNone};
  CHECK_FALSE(parameters_of(f.g, std::span(&w, 1), kSeedRules)[0].decay);
}

TEST_CASE("the update graph has a node a parameter and a hyper input a group") {
  const std::vector<Parameter> p = three_parameters();
  const UpdateGraph u = build_update_graph(p);
  REQUIRE(u.graph.validate().ok());
  REQUIRE(u.graph.nodes.size() == 3);
  REQUIRE(u.groups.size() == 2);
  REQUIRE(u.states.size() == 3);
  const std::vector<ValueId> hyper = {u.groups[0].hyper, u.groups[1].hyper, u.groups[0].hyper};
  for (size_t i = 0; i < 3; ++i) {
    const UpdateGraph::States& s = u.states[i];
    CHECK(u.graph.nodes[i].in == std::vector<ValueId>{s.w, s.grad, s.m, s.v, s.copy, hyper[i]});
    CHECK((s.copy != kNone) == p[i].bf16_copy);
    CHECK(u.graph.value(s.w).name == p[i].name);
    CHECK(u.graph.value(s.grad).shape == p[i].shape);
  }
  CHECK(u.groups[0].decay);
  CHECK_FALSE(u.groups[1].decay);
  CHECK(build_update_graph({}).graph.validate().ok());
}

TEST_CASE("hyper-parameters of a step are what adamw is written for") {
  const UpdateGroup slow{0.1f, true, kNone}, plain{1, false, kNone};
  const auto h = hyper_numbers({}, slow, 0.5, 0.25, 1);
  CHECK(h[0] == 0.05f);
  CHECK(h[1] == 0.9f);
  CHECK(h[2] == 0.95f);
  CHECK(h[3] == 1e-8f);
  CHECK(h[4] == 0.1f);
  CHECK(h[5] == 0.25f);
  CHECK(h[6] == 1 - 0.9f);
  CHECK(h[7] == 1 - 0.95f);
  const auto later = hyper_numbers({}, plain, 0.5, 1, 10);
  CHECK(later[4] == 0);
  CHECK(later[6] == doctest::Approx(1 - std::pow(0.9, 10)).epsilon(1e-6));
  CHECK(later[7] == doctest::Approx(1 - std::pow(0.95, 10)).epsilon(1e-6));
  CHECK(hyper_numbers({}, plain, 0.5, 1, 1'000'000'000)[6] == 1);
}

TEST_CASE("the norm graph gives each gradient's squares, and the norm is over all of them") {
  const std::vector<Parameter> p = three_parameters();
  const NormGraph n = build_norm_graph(p);
  REQUIRE(n.graph.validate().ok());
  REQUIRE(n.sums.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(n.graph.value(n.grads[i]).shape == p[i].shape);
    CHECK(n.graph.value(n.sums[i]).output);
  }
  const auto norm = global_norm(p, std::vector<float>{9, 0, 16});
  REQUIRE(norm.ok());
  CHECK(*norm == 5);
}

TEST_CASE("the first parameter whose gradient is not finite is named") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const float odd : {nan, infinity}) {
    const auto norm = global_norm(three_parameters(), std::vector<float>{1, odd, nan});
    REQUIRE_FALSE(norm.ok());
    CHECK(norm.status().code() == StatusCode::kOutOfRange);
    CHECK(norm.status().message().find("gradient of 'b': wanted finite numbers") == 0);
  }
}

TEST_CASE("gradients are scaled to the limit and not beyond") {
  CHECK(clipped_scale(5, 1, 1) == 0.2);
  CHECK(clipped_scale(5, 0.1, 1) == 0.1);  // 0.5 is within the limit
  CHECK(clipped_scale(5, 0.5, 1) == 0.2);  // 2.5 is not
  CHECK(clipped_scale(5, 0.5, 0) == 0.5);  // no limit
  CHECK(clipped_scale(0, 0.5, 1) == 0.5);
}

TEST_CASE("the rate rises to the peak and ends exactly at its final share") {
  RateSchedule s{.peak = 0.5f, .final_share = 0.25f, .warmup_steps = 9, .total_steps = 110};
  for (const Decline d : {Decline::kLinear, Decline::kCosine}) {
    s.decline = d;
    REQUIRE(validate(s).ok());
    CHECK(s.rate_at(0) == 0.05);
    CHECK(s.rate_at(8) == doctest::Approx(0.45));
    CHECK(s.rate_at(9) == 0.5);
    CHECK(s.rate_at(59) == doctest::Approx((0.5 + 0.125) / 2).epsilon(1e-14));
    CHECK(s.rate_at(109) == 0.125);
    CHECK(s.rate_at(100000) == 0.125);
    for (int64_t i = 10; i < 110; ++i) CHECK(s.rate_at(i) < s.rate_at(i - 1));
  }
  CHECK(s.rate_at(34) == doctest::Approx(0.125 + 0.375 * (1 + std::cos(std::numbers::pi / 4)) / 2));
  s.decline = Decline::kConstant;
  for (const int64_t i : {9, 50, 109, 100000}) CHECK(s.rate_at(i) == 0.5);
}

TEST_CASE("a schedule of one step, and one that ends where its warm-up does, stay at the peak") {
  for (const int64_t warmup : {0, 4}) {
    const RateSchedule s{.peak = 0.5f, .warmup_steps = warmup, .total_steps = warmup + 1};
    REQUIRE(validate(s).ok());
    CHECK(s.rate_at(warmup) == 0.5);
  }
}

TEST_CASE("restarts run from the peak to the final share, each period longer than the one before") {
  RateSchedule s{.peak = 1, .final_share = 0, .warmup_steps = 2, .total_steps = 72, .decline = Decline::kCosineRestarts};
  s.first_period = 10, s.period_factor = 2;
  REQUIRE(validate(s).ok());
  for (const int64_t begin : {2, 12, 32}) CHECK(s.rate_at(begin) == 1);
  for (const int64_t end : {11, 31, 71}) CHECK(s.rate_at(end) == 0);
  CHECK(s.rate_at(5) == doctest::Approx((1 + std::cos(std::numbers::pi * 3 / 9)) / 2));
  CHECK(s.rate_at(45) == doctest::Approx((1 + std::cos(std::numbers::pi * 13 / 39)) / 2));
  s.period_factor = 1;
  for (int64_t i = 2; i < 62; ++i) CHECK(s.rate_at(i) == s.rate_at(i + 10));
  s.first_period = 1;
  for (int64_t i = 2; i < 72; ++i) CHECK(s.rate_at(i) == 1);
}

TEST_CASE("wrong numbers of a schedule and of the optimiser are named") {
  const auto message = [](RateSchedule s) { return validate(s).message(); };
  CHECK(message({.peak = -1, .total_steps = 9}) == "peak: wanted 0 or more, found -1");
  CHECK(message({.final_share = 2, .total_steps = 9}) == "final_share: wanted 0 to 1, found 2");
  CHECK(message({.warmup_steps = 9, .total_steps = 9}) == "total_steps: wanted more than warmup_steps, at most 1e12, found 9");
  CHECK(message({.warmup_steps = -9, .total_steps = 9}) == "warmup_steps: wanted 0 or more, found -9");
  CHECK(message({.total_steps = 9, .decline = Decline::kCosineRestarts}) == "first_period: wanted 1 or more, found 0");
  CHECK(message({.total_steps = 9, .decline = Decline::kCosineRestarts, .first_period = 2, .period_factor = 0}) ==
        "period_factor: wanted 1 to 1000, found 0");
  CHECK(message({.peak = std::nanf(""), .total_steps = 9}) == "peak: wanted 0 or more, found nan");
  CHECK(validate(RateSchedule{.decline = Decline::kConstant}).ok());

  CHECK(validate(AdamW{}).ok());
  CHECK(validate(AdamW{.beta1 = 1}).message() == "beta1: wanted 0 <= beta1 < 1, found 1");
  CHECK(validate(AdamW{.beta2 = -0.5f}).message() == "beta2: wanted 0 <= beta2 < 1, found -0.5");
  CHECK(validate(AdamW{.eps = 0}).message() == "eps: wanted a number above 0, found 0");
  CHECK_FALSE(validate(AdamW{.weight_decay = -1}).ok());
}

TEST_CASE("declines have names that are read back") {
  for (const Decline d : {Decline::kConstant, Decline::kLinear, Decline::kCosine, Decline::kCosineRestarts}) {
    const auto read = decline_from_name(decline_name(d));
    REQUIRE(read.ok());
    CHECK(*read == d);
  }
  CHECK(decline_from_name("cosin").status().message() ==
        "decline: wanted one of constant, linear, cosine, cosine-restarts, found 'cosin'");
}

}  // namespace moe

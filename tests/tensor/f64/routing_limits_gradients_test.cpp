// Gradients through routers in training, against differences in double precision: with experts dropped before the choice, with
// full ones behind it, and with both losses.
#include <doctest/doctest.h>

#include <algorithm>

#include "core/rng.h"
#include "tests/tensor/f64/gradient_check.h"
#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

using namespace test;

constexpr int64_t kExperts = 8, kRows = 9, kWidth = 5, kSlots = 2;

// A router over rows of x, and experts that it mixes.
struct LimitedMixture : GraphFixture {
  Values64 values;
  ValueId dropped, ids, limited, y;
  std::vector<LossTerm> losses;

  LimitedMixture(const RouteAttrs& a, const Doubles& drop, const Doubles& capacity, const Doubles& balance) {
    const ValueId rows = input("rows", {kTokens}, DType::kI32);
    values[rows] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    const ValueId x = op(Op::kEmbed, {weight("x", {kRows, kWidth}), rows});
    const ValueId logits = op(Op::kLinear, {x, weight("router", {kExperts, kWidth})}, ScaleAttrs{});
    std::vector<ValueId> in = routing_tables(kExperts);
    values[in[0]] = {1, kSlots, 0.05, 1, 0, 0, 0, 0}, values[in[1]] = Doubles(kExperts, 1), values[in[2]] = Doubles(kRows);
    values[in[3]] = {0.3, 0, 0, 0, -0.1, 0, 0.2, 0}, values[in[4]] = Doubles(kExperts, -1);
    const auto four = [&](const char* name, const Doubles& numbers) {
      const ValueId id = input(name, {4});
      values[id] = numbers;
      return id;
    };
    dropped = op(Op::kDropExperts, {logits, four("drop", drop), in[1], in[2]}, DropAttrs{kSlots, 4});
    in.insert(in.begin(), {dropped, kNone});
    in.push_back(four("balance", balance));
    ids = op(Op::kRoute, in, a);
    const ValueId weights = g.nodes.back().out[1];
    limited = op(Op::kLimitExperts, {ids, dropped, in[3], in[4], four("capacity", capacity)}, LimitAttrs{4});
    const ValueId experts = weight("experts", {kExperts, 3, kWidth});
    y = op(Op::kWeightedSum, {op(Op::kMoeLinear, {x, limited, experts}), limited, weights});
    in.insert(in.end() - 1, {ids, weights, kNone});
    op(Op::kRouteGrad, in, a);
    losses = {{g.nodes.back().out[1], {balance[0], balance[1], 0, 0}}};
  }
  GradientCase gradients(uint64_t seed) const {
    return {.g = g, .y = y, .run = {.n_tokens = kRows}, .values = values, .seed = seed, .also = losses};
  }
};

RouteAttrs gated(Gating gating, bool normalize) {
  return {.n_experts = kExperts, .k_capacity = kSlots, .gating = gating, .normalize = normalize, .scale = 1.5f};
}

}  // namespace

TEST_SUITE_BEGIN("gradients");

TEST_CASE("drop_experts and limit_experts: of every gating, for every way of overflow, with losses and without") {
  for (const Gating gating : {Gating::kSoftmax, Gating::kSigmoid, Gating::kSoftmaxSelected})
    for (const bool normalize : {false, true})
      for (const double overflow : {0.0, 1.0, 2.0})
        for (const double balance : {0.0, 0.5}) {
          CAPTURE(static_cast<int>(gating));
          CAPTURE(overflow);
          LimitedMixture m(gated(gating, normalize), {0.4, 3, 0, 0}, {1.1, overflow, 9, 0}, {balance, balance / 2, 0, 0});
          check_gradients(m.gradients(5));
        }
}

TEST_CASE("the cases above drop experts, and slots overflow in them") {
  LimitedMixture m(gated(Gating::kSoftmax, false), {0.4, 3, 0, 0}, {1.1, 0, 9, 0}, {0, 0, 0, 0});
  Rng rng(5);
  for (const char* name : {"x", "router", "experts"}) {
    Doubles& v = m.values[m.g.find(name)];
    v.resize(static_cast<size_t>(m.g.value(m.g.find(name)).shape.elements()));
    for (double& x : v) x = double{rng.normal()};
  }
  run_f64(m.g, {.n_tokens = kRows}, m.values);
  const Doubles &logits = m.values.at(m.dropped), &ids = m.values.at(m.ids), &limited = m.values.at(m.limited);
  CHECK(std::count(logits.begin(), logits.end(), double{kDroppedLogit}) > kRows);
  CHECK(std::count(limited.begin(), limited.end(), -1) > std::count(ids.begin(), ids.end(), -1));
}

TEST_CASE("weights of slots that lost their expert get no gradient") {
  GraphFixture f;
  const ValueId x = f.input("x", {kTokens, 2, 3}), ids = f.input("ids", {kTokens, 2}, DType::kI32),
                weights = f.input("weights", {kTokens, 2}), dy = f.input("dy", {kTokens, 3});
  const ValueId dx = f.op(Op::kWeightedSumGrad, {x, ids, weights, dy}), dweights = f.g.nodes.back().out[1];
  Values64 v = {{x, Doubles(12, 2)}, {ids, {0, -1, -1, 3}}, {weights, {0.5, 0.5, 0.7, 0.3}}, {dy, Doubles(6, 1)}};
  run_f64(f.g, {.n_tokens = 2}, v);
  CHECK(v.at(dweights) == Doubles{6, 0, 0, 6});
  CHECK(Doubles(v.at(dx).begin() + 3, v.at(dx).begin() + 9) == Doubles(6));
}

TEST_SUITE_END();

}  // namespace moe

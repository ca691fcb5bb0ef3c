// The router's reverse pass against differences in double precision: of weights through every gating, and of both losses.
// Which experts are chosen must not change within a step: cases with decisions that near are refused.
#include <doctest/doctest.h>

#include "core/rng.h"
#include "tensor/autodiff.h"
#include "tests/tensor/f64/gradient_check.h"
#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

using namespace test;

constexpr int64_t kExperts = 8, kTokensHere = 6;

// Two classes of tokens; the second may not use experts 1 and 6. Expert 3 is closed to all, and 5 takes its place.
struct Routed : GraphFixture {
  Values64 values;
  RunShape run{.n_tokens = kTokensHere, .n_outputs = 1};
  ValueId logits, weights, ids, balance;

  Routed(const RouteAttrs& a, const Doubles& params, bool with_bias, uint64_t seed) {
    Rng rng(seed);
    const auto normals64 = [&](int64_t n, double deviation) {
      Doubles v(static_cast<size_t>(n));
      for (double& x : v) x = deviation * double{rng.normal()};
      return v;
    };
    const ValueId table = weight("logits", {kTokensHere, kExperts}), rows = input("rows", {kTokens}, DType::kI32);
    values[table] = normals64(kTokensHere * kExperts, 1.5), values[rows] = {0, 1, 2, 3, 4, 5};
    logits = op(Op::kEmbed, {table, rows});
    std::vector<ValueId> in = {logits,
                               with_bias ? input("selection_bias", {kExperts}) : kNone,
                               input("params", {8}),
                               input("allow", {2, kExperts}, DType::kI8),
                               input("class", {kTokens}, DType::kI32),
                               input("bias", {kExperts}),
                               input("redirect", {kExperts}, DType::kI32)};
    balance = input("balance", {4});
    in.push_back(balance);
    if (with_bias) values[in[1]] = normals64(kExperts, 0.3);
    values[in[2]] = params;
    values[in[3]] = {1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1};
    values[in[4]] = {0, 1, 0, 1, 1, 0};
    values[in[5]] = normals64(kExperts, 0.1);
    values[in[6]] = {-1, -1, -1, 5, -1, -1, -1, -1};
    values[balance] = {0, 0, 0, 0};
    ids = op(Op::kRoute, in, a);
    weights = g.nodes.back().out[1];
    check_margins(table);
  }

  Doubles ids_of(Values64 v) const {
    run_f64(g, run, v);
    return v.at(ids);
  }
  void check_margins(ValueId table) const {
    const Doubles decided = ids_of(values);
    for (size_t i = 0; i < values.at(table).size(); ++i)
      for (const double step : {-1e-3, 1e-3}) {
        Values64 near = values;
        near[table][i] += step;
        REQUIRE_MESSAGE(ids_of(near) == decided, "choose another seed");
      }
  }
};

// k_min, k_max, threshold, temperature
const Doubles kTwo = {2, 2, 0, 1, 0, 0, 0, 0}, kThreshold = {1, 3, 0.4, 0.8, 0, 0, 0, 0}, kOne = {1, 1, 0, 1, 0, 0, 0, 0};

struct Way {
  const char* name;
  RouteAttrs attrs;
  Doubles params;
  bool with_bias;
};

const Way kWays[] = {
    {"softmax", {.gating = Gating::kSoftmax}, kTwo, false},
    {"softmax, one expert", {.gating = Gating::kSoftmax}, kOne, true},
    {"softmax, normalized and scaled", {.gating = Gating::kSoftmax, .normalize = true, .scale = 2.5f}, kTwo, true},
    {"softmax, threshold", {.gating = Gating::kSoftmax, .scale = 0.5f}, kThreshold, false},
    {"softmax, normalized threshold", {.gating = Gating::kSoftmax, .normalize = true}, kThreshold, false},
    {"sigmoid", {.gating = Gating::kSigmoid, .scale = 1.5f}, kTwo, true},
    {"sigmoid, normalized", {.gating = Gating::kSigmoid, .normalize = true}, kThreshold, true},
    {"sigmoid, threshold", {.gating = Gating::kSigmoid}, kThreshold, false},
    {"sigmoid, groups", {.gating = Gating::kSigmoid, .normalize = true, .n_group = 4, .topk_group = 2}, kTwo, true},
    {"softmax of the selected", {.gating = Gating::kSoftmaxSelected, .scale = 3}, kTwo, false},
    {"softmax of the selected, threshold", {.gating = Gating::kSoftmaxSelected}, kThreshold, true},
};

RouteAttrs sized(RouteAttrs a) {
  a.n_experts = kExperts, a.k_capacity = 3;
  return a;
}

// The sum that dlogits without dweights is the gradient of.
double losses(const Graph& g, const RunShape& run, ValueId losses_id, Values64 values, const Doubles& balance) {
  run_f64(g, run, values);
  return balance[0] * values.at(losses_id)[0] + balance[1] * values.at(losses_id)[1];
}

}  // namespace

TEST_SUITE_BEGIN("gradients");

TEST_CASE("route: of the weights, for every gating, with thresholds, masks, redirects, biases and groups") {
  for (const Way& way : kWays) {
    CAPTURE(way.name);
    Routed f(sized(way.attrs), way.params, way.with_bias, 7);
    check_gradients({f.g, f.weights, f.run, f.values});
  }
}

TEST_CASE("route_grad: of the load-balancing loss and the z-loss") {
  for (const Way& way : kWays)
    for (const Doubles& balance : {Doubles{0.7, 0, 0, 0}, Doubles{0, 0.3, 0, 0}, Doubles{0.7, 0.3, 0, 0}}) {
      CAPTURE(way.name);
      Routed f(sized(way.attrs), way.params, way.with_bias, 7);
      std::vector<ValueId> in = f.g.nodes.back().in;
      const ValueId table = f.g.find("logits");
      in.resize(7);
      in.insert(in.end(), {f.ids, f.weights, kNone, f.balance});
      f.values[f.balance] = balance;
      const ValueId dlogits = f.op(Op::kRouteGrad, in, sized(way.attrs)), losses_id = f.g.nodes.back().out[1];
      Values64 plain = f.values;
      run_f64(f.g, f.run, plain);
      for (size_t i = 0; i < kTokensHere * kExperts; ++i) {
        constexpr double kStep = 1e-5;
        Values64 above = f.values, below = f.values;
        above[table][i] += kStep, below[table][i] -= kStep;
        const double wanted =
            (losses(f.g, f.run, losses_id, above, balance) - losses(f.g, f.run, losses_id, below, balance)) / (2 * kStep);
        CHECK(plain[dlogits][i] == doctest::Approx(wanted).epsilon(1e-6).scale(0.01));
      }
    }
}

TEST_CASE("a load that is even costs 1, and its entropy is that of a fair choice") {
  GraphFixture f;
  Values64 values;
  const ValueId logits = f.input("logits", {kTokens, 4});
  std::vector<ValueId> in = f.routing_tables(4);
  values[in[0]] = {1, 1, 0, 1, 0, 0, 0, 0}, values[in[1]] = {1, 1, 1, 1}, values[in[2]] = {0, 0, 0, 0};
  values[in[3]] = {0, 0, 0, 0}, values[in[4]] = {-1, -1, -1, -1};
  values[logits] = {2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2};
  in.insert(in.begin(), {logits, kNone});
  const RouteAttrs a{.n_experts = 4, .k_capacity = 1};
  const ValueId ids = f.op(Op::kRoute, in, a), weights = f.g.nodes.back().out[1];
  in.insert(in.end(), {ids, weights});
  f.op(Op::kRouteGrad, in, a);
  run_f64(f.g, RunShape{.n_tokens = 4}, values);
  const Doubles& losses = values.at(f.g.nodes.back().out[1]);
  CHECK(losses[0] == doctest::Approx(1));
  CHECK(losses[1] == doctest::Approx(5.4791244));  // log(e² + 3)²
  CHECK(losses[2] == doctest::Approx(1.3862944));  // log 4
}

TEST_CASE("route's reverse reads the balance that route was given") {
  Routed f(sized(kWays[0].attrs), kWays[0].params, false, 7);
  Graph both = f.g;
  Value seed;
  seed.kind = ValueKind::kInput, seed.shape = f.g.value(f.weights).shape;
  const GradientSeed seeds[] = {{f.weights, both.add_value(seed)}};
  REQUIRE(differentiate(both, seeds, [](const Value& w) { return w.dtype == DType::kF32; }).ok());
  int found = 0;
  for (const Node& n : both.nodes)
    if (n.op == Op::kRouteGrad) found += n.in[10] == f.balance;
  CHECK(found == 1);
}

TEST_SUITE_END();

}  // namespace moe

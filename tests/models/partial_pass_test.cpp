// Parts of a forward pass against whole ones.
#include "models/partial_pass.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

std::unique_ptr<PartialPass> make_pass(const Model& m, PassPoint from, PassPoint to, const PartialPassOptions& options = {}) {
  auto pass = PartialPass::create(m, from, to, options);
  REQUIRE_MESSAGE(pass.ok(), pass.status().message());
  return std::move(pass).value();
}

void run(PartialPass& pass, const PassInput& input) {
  const Status s = pass.run(input);
  REQUIRE_MESSAGE(s.ok(), s.message());
}

std::vector<float> copy(std::span<const float> x) { return {x.begin(), x.end()}; }

PartialPassOptions roomy_pass(int max_tokens = 64) {
  PartialPassOptions o;
  o.max_tokens = max_tokens, o.max_sequences = 4, o.cache_k = o.cache_v = DType::kF32;
  return o;
}

bool is_routed(const Model& m, int layer) { return m.routing_shape().layers[static_cast<size_t>(layer)].n_experts > 0; }

// Masks, classes, a threshold, a temperature and a redirect.
RoutingTopology busy_topology(const Model& m) {
  RoutingTopology t = full_topology(m.routing_shape());
  t.n_classes = 2;
  t.token_class.resize(static_cast<size_t>(m.config().n_vocab));
  for (size_t i = 0; i < t.token_class.size(); ++i) t.token_class[i] = i % 3 == 0;
  for (LayerRouting& r : t.layers) {
    if (r.n_experts == 0) continue;
    const auto E = static_cast<size_t>(r.n_experts);
    r.allow.assign(2 * E, 1);
    r.allow[1] = r.allow[E + 1] = 0;
    r.redirect.assign(E, -1), r.redirect[1] = 0;
    r.k_min = 1, r.threshold = 0.3f, r.temperature = 1.25f;
  }
  REQUIRE(validate(t, m.routing_shape()).ok());
  return t;
}

TEST_CASE("a pass from any layer on has the bits of a whole session") {
  for (const char* name : reference_names()) {
    CAPTURE(name);
    for (const bool exact : {true, false}) {
      const auto m = load_model(reference_path(name), {exact, 2, ""});
      const auto tokens = reference_tokens();
      for (const bool busy : {false, true}) {
        const RoutingTopology topology = busy ? busy_topology(*m) : full_topology(m->routing_shape());
        const auto session = new_session(*m);
        REQUIRE(session->set_topology(topology).ok());
        const std::vector<float> wanted = run_tokens(*session, tokens, 16);

        PartialPassOptions o = roomy_pass();
        o.watch_residuals = true;
        const auto whole = make_pass(*m, PassPoint::tokens(), PassPoint::logits(), o);
        REQUIRE(whole->set_topology(topology).ok());
        run(*whole, {.tokens = tokens});
        CHECK(same_bits(whole->output(), wanted));
        for (int l = 0; l < m->config().n_layer; ++l) {
          CAPTURE(l);
          const std::vector<float> x = copy(whole->watched(l).residual);
          const auto head = make_pass(*m, PassPoint::tokens(), PassPoint::residual(l), roomy_pass());
          REQUIRE(head->set_topology(topology).ok());
          run(*head, {.tokens = tokens});
          CHECK(same_bits(head->output(), x));
          const auto tail = make_pass(*m, PassPoint::residual(l), PassPoint::logits(), roomy_pass());
          REQUIRE(tail->set_topology(topology).ok());
          run(*tail, {.tokens = tokens, .x = x});
          CHECK(same_bits(tail->output(), wanted));
        }
      }
    }
  }
}

TEST_CASE("a router's input makes the layer's mixture; experts alone, weighted and summed, make it too") {
  for (const char* name : reference_names()) {
    CAPTURE(name);
    const auto m = load_model(reference_path(name));
    const auto tokens = reference_tokens();
    const size_t T = tokens.size(), d = static_cast<size_t>(m->config().d_model);
    PartialPassOptions o = roomy_pass();
    o.watch_routers = o.watch_mixtures = o.watch_norms = true;
    const auto whole = make_pass(*m, PassPoint::tokens(), PassPoint::logits(), o);
    run(*whole, {.tokens = tokens});
    const auto session = new_session(*m);
    const std::vector<float> logits = run_tokens(*session, tokens, 16);
    CHECK(nmse(whole->output(), logits) < 1e-9);  // watching norms has other kernels, not another result
    for (int l = 0; l < m->config().n_layer; ++l) {
      if (!is_routed(*m, l)) continue;
      CAPTURE(l);
      const WatchedLayer w = whole->watched(l);
      const size_t K = w.ids.size() / T;
      const auto inner = make_pass(*m, PassPoint::router_input(l), PassPoint::mixture(l), roomy_pass());
      run(*inner, {.x = w.x});
      CHECK(nmse(inner->output(), w.mixture) < 1e-12);

      PartialPassOptions one = roomy_pass();
      one.k_capacity.assign(static_cast<size_t>(m->config().n_layer), 1);
      const auto expert = make_pass(*m, PassPoint::experts(l), PassPoint::mixture(l), one);
      const std::vector<float> ones(T, 1.0f);
      std::vector<float> sum(T * d);
      const float residual_scale = m->config().residual_scale != 0 ? m->config().residual_scale : 1;
      for (size_t slot = 0; slot < K; ++slot) {
        std::vector<int32_t> ids(T);
        for (size_t t = 0; t < T; ++t) ids[t] = w.ids[t * K + slot];
        run(*expert, {.x = w.x, .ids = ids, .weights = ones});
        const auto y = expert->output();
        for (size_t t = 0; t < T; ++t) {
          double norm2 = 0;
          for (size_t i = 0; i < d; ++i) {
            sum[t * d + i] += w.weights[t * K + slot] * y[t * d + i];
            norm2 += std::pow(static_cast<double>(y[t * d + i] / residual_scale), 2);
          }
          CHECK(w.norms2[t * K + slot] == doctest::Approx(norm2).epsilon(1e-4));
        }
      }
      CHECK(nmse(sum, w.mixture) < 1e-11);
    }
  }
}

TEST_CASE("sequences of one run do not see each other, and rows of logits can be chosen") {
  const auto m = load_model(reference_path("qwen3moe"));
  const std::vector<Token> tokens = random_tokens(23, m->config().n_vocab, 7);
  const auto V = static_cast<size_t>(m->config().n_vocab);
  const auto pass = make_pass(*m, PassPoint::tokens(), PassPoint::logits(), roomy_pass());
  const std::vector<int> lengths = {9, 1, 13};
  run(*pass, {.tokens = tokens, .lengths = lengths});
  const std::vector<float> together = copy(pass->output());
  size_t first = 0;
  for (const int n : lengths) {
    run(*pass, {.tokens = std::span(tokens).subspan(first, static_cast<size_t>(n))});
    CHECK(same_bits(pass->output(), std::span(together).subspan(first * V, static_cast<size_t>(n) * V)));
    first += static_cast<size_t>(n);
  }
  const std::vector<int32_t> rows = {22, 3};
  run(*pass, {.tokens = tokens, .lengths = lengths, .outputs = rows});
  CHECK(pass->output().size() == 2 * V);
  CHECK(same_bits(pass->output().subspan(0, V), std::span(together).subspan(22 * V, V)));
  CHECK(same_bits(pass->output().subspan(V, V), std::span(together).subspan(3 * V, V)));
}

TEST_CASE("what a pass cannot do is said") {
  const auto m = load_model(reference_path("deepseek2"));  // layer 0 is dense
  const int n = m->config().n_layer;
  const auto refused = [&](PassPoint from, PassPoint to, const PartialPassOptions& o, const char* why) {
    const auto pass = PartialPass::create(*m, from, to, o);
    REQUIRE(!pass.ok());
    CHECK(has_text(pass.status(), why));
    CHECK(is_one_line(pass.status()));
  };
  const PassPoint tokens = PassPoint::tokens(), logits = PassPoint::logits();
  refused(logits, tokens, {}, "no way from logits to tokens");
  refused(PassPoint::residual(1), PassPoint::residual(1), {}, "no way from residual 1 to residual 1");
  refused(PassPoint::residual(n), logits, {}, "no way from residual");
  refused(PassPoint::router_input(0), PassPoint::mixture(0), {}, "router_input 0");
  refused(PassPoint::router_input(1), logits, {}, "router_input 1 to logits");
  refused(tokens, logits, {.max_tokens = 0}, "max_tokens");
  refused(tokens, logits, {.k_capacity = {1}}, "k_capacity");
  refused(tokens, logits, {.k_capacity = std::vector<int>(static_cast<size_t>(n), 1000)}, "k_capacity of layer 1");

  const auto pass = make_pass(*m, tokens, logits, roomy_pass(8));
  const std::vector<Token> good = {1, 2, 3}, bad = {1, -2, 3};
  const std::vector<Token> many(9, 1);
  const std::vector<int> lengths = {1, 1};
  const std::vector<int32_t> row = {3};
  CHECK(has_text(pass->run({}), "rows of a run"));
  CHECK(has_text(pass->run({.tokens = many}), "rows of a run"));
  CHECK(has_text(pass->run({.tokens = bad}), "token ids"));
  CHECK(has_text(pass->run({.tokens = good, .lengths = lengths}), "wanted sequences of 3 tokens together, found 2"));
  CHECK(has_text(pass->run({.tokens = good, .outputs = row}), "outputs"));
  CHECK(pass->run({.tokens = good}).ok());
  const RoutingTopology wide = with_k(full_topology(m->routing_shape()), m->routing_shape(), 8);
  if (validate(wide, m->routing_shape()).ok()) CHECK(has_text(pass->set_topology(wide), "k_capacity"));

  PartialPassOptions one = roomy_pass(8);
  one.k_capacity.assign(static_cast<size_t>(n), 1);
  const auto experts = make_pass(*m, PassPoint::experts(1), PassPoint::mixture(1), one);
  const std::vector<float> x(static_cast<size_t>(m->config().d_model)), w = {1};
  const std::vector<int32_t> id = {0}, no_such = {1 << 20};
  CHECK(experts->run({.x = x, .ids = id, .weights = w}).ok());
  CHECK(has_text(experts->run({.x = x, .ids = no_such, .weights = w}), "expert ids"));
  CHECK(has_text(experts->run({.x = x, .ids = id}), "weights"));
}

}  // namespace
}  // namespace moe

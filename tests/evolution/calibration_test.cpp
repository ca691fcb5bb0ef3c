// Sums over a text against sums by hand, and what saliencies make of them.
#include "evolution/calibration.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "evolution/saliency.h"
#include "models/partial_pass.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

struct Text {
  std::vector<Token> tokens;
  std::vector<int> lengths;
  CalibrationText view() const { return {.tokens = tokens, .lengths = lengths}; }
};

Text random_text(const Model& m, std::vector<int> lengths, uint64_t seed = 5) {
  size_t n = 0;
  for (const int l : lengths) n += static_cast<size_t>(l);
  return {random_tokens(n, m.config().n_vocab, seed), std::move(lengths)};
}

Calibration calibrated(const Model& m, const CalibrationText& text, const CalibrationOptions& o = {}) {
  auto c = calibrate(m, text, o);
  REQUIRE_MESSAGE(c.ok(), c.status().message());
  return std::move(c).value();
}

TEST_CASE("a calibration counts what sessions do") {
  for (const char* name : {"qwen3moe", "deepseek2", "gpt-oss"}) {
    CAPTURE(name);
    const auto m = load_model(reference_path(name));
    const Text text = random_text(*m, {16, 7, 12});
    std::vector<uint8_t> token_class(static_cast<size_t>(m->config().n_vocab));
    for (size_t i = 0; i < token_class.size(); ++i) token_class[i] = i % 2;
    CalibrationText with_classes = text.view();
    with_classes.n_classes = 2, with_classes.token_class = token_class;
    const std::vector<int> domains = {1, 0, 1};
    with_classes.domains = domains;
    const Calibration c = calibrated(*m, with_classes, {.n_sampled = 9, .batch_tokens = 24});
    CHECK(c.tokens[0] + c.tokens[1] == 35);
    CHECK(c.token_layers == 35.0 * m->config().n_layer);

    // The same text in a session, sequence by sequence.
    std::vector<std::vector<int64_t>> use(c.layers.size());
    std::vector<std::vector<int64_t>> domain_use(c.layers.size());
    std::vector<std::vector<double>> gate(c.layers.size());
    std::vector<double> entropy(c.layers.size());
    for (size_t l = 0; l < c.layers.size(); ++l)
      use[l].assign(2 * static_cast<size_t>(c.layers[l].n_experts), 0), gate[l].assign(use[l].size(), 0),
          domain_use[l].assign(use[l].size(), 0);
    SessionOptions so = roomy(64, 3);
    so.observe_router = true;
    const auto session = new_session(*m, so);
    int seq = 0;
    size_t first = 0;
    for (const int n : text.lengths) {
      const auto tokens = std::span(text.tokens).subspan(first, static_cast<size_t>(n));
      session->set_observer([&](const RouterView& v) {
        for (int t = 0; t < v.n_tokens; ++t) {
          double sum = 0;
          for (int e = 0; e < v.n_experts; ++e) sum += std::exp(static_cast<double>(v.logits[t * v.n_experts + e]));
          for (int e = 0; e < v.n_experts; ++e) {
            const double p = std::exp(static_cast<double>(v.logits[t * v.n_experts + e])) / sum;
            entropy[static_cast<size_t>(v.layer)] -= p * std::log(p);
          }
          const size_t cls = token_class[static_cast<size_t>(tokens[static_cast<size_t>(t)])];
          for (int s = t * v.n_slots; s < (t + 1) * v.n_slots; ++s)
            if (v.ids[s] >= 0) {
              const size_t at = cls * static_cast<size_t>(v.n_experts) + static_cast<size_t>(v.ids[s]);
              const size_t domain = domains[static_cast<size_t>(seq)] == 1 ? static_cast<size_t>(v.n_experts) : 0;
              ++domain_use[static_cast<size_t>(v.layer)][domain + static_cast<size_t>(v.ids[s])];
              ++use[static_cast<size_t>(v.layer)][at], gate[static_cast<size_t>(v.layer)][at] += v.weights[s];
            }
        }
      });
      run_tokens(*session, tokens, 16, seq);
      ++seq;
      first += static_cast<size_t>(n);
    }
    for (size_t l = 0; l < c.layers.size(); ++l) {
      const LayerCalibration& lc = c.layers[l];
      CAPTURE(l);
      CHECK(lc.n_experts == m->routing_shape().layers[l].n_experts);
      if (lc.n_experts == 0) {
        CHECK(lc.use.empty());
        continue;
      }
      CHECK(lc.use == use[l]);
      CHECK(lc.domain_use == domain_use[l]);
      for (size_t i = 0; i < gate[l].size(); ++i) CHECK(lc.gate[i] == doctest::Approx(gate[l][i]).epsilon(1e-5));
      CHECK(lc.entropy[0] + lc.entropy[1] == doctest::Approx(entropy[l]).epsilon(1e-4));
      for (int e = 0; e < lc.n_experts; ++e)
        CHECK(lc.together[pair_index(static_cast<size_t>(e), static_cast<size_t>(e))] == lc.total(lc.use, e));
      int64_t pairs = 0, slots = 0;
      for (const uint32_t n : lc.together) pairs += n;
      for (const int64_t n : lc.use) slots += n;
      const int k = m->routing_shape().layers[l].k;
      CHECK(pairs == slots / k * (k * (k + 1) / 2));
    }
  }
}

TEST_CASE("lengths of outputs are those of the experts alone, and the sample's inputs make them") {
  const auto m = load_model(reference_path("olmoe"));
  const Text text = random_text(*m, {20});
  const Calibration c = calibrated(*m, text.view(), {.n_sampled = 1000});
  CHECK(c.sampled.size() == 20);
  CHECK(c.sampled_tokens == text.tokens);
  const auto d = static_cast<size_t>(c.d_model);
  for (int l = 0; l < m->config().n_layer; ++l) {
    const LayerCalibration& lc = c.layers[static_cast<size_t>(l)];
    const int E = lc.n_experts, k = m->routing_shape().layers[static_cast<size_t>(l)].k;
    PartialPassOptions o;
    o.k_capacity.assign(c.layers.size(), 1);
    auto pass = PartialPass::create(*m, PassPoint::experts(l), PassPoint::mixture(l), o);
    REQUIRE(pass.ok());
    std::vector<double> norm(static_cast<size_t>(E)), weighted(static_cast<size_t>(E));
    for (size_t t = 0; t < 20; ++t) {
      std::vector<double> p(static_cast<size_t>(E));
      double sum = 0;
      for (size_t e = 0; e < p.size(); ++e) sum += p[e] = std::exp(static_cast<double>(lc.logits[t * p.size() + e]));
      std::vector<size_t> order(p.size());
      for (size_t e = 0; e < order.size(); ++e) order[e] = e;
      std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
      for (int i = 0; i < k; ++i) {
        const size_t e = order[static_cast<size_t>(i)];
        const std::vector<int32_t> id = {static_cast<int32_t>(e)};
        const std::vector<float> one = {1};
        REQUIRE((*pass)->run({.x = std::span(lc.x).subspan(t * d, d), .ids = id, .weights = one}).ok());
        double n2 = 0;
        for (const float y : (*pass)->output()) n2 += static_cast<double>(y) * y;
        norm[e] += std::sqrt(n2), weighted[e] += p[e] / sum * std::sqrt(n2);  // OLMoE does not normalise
      }
    }
    for (int e = 0; e < E; ++e) {
      CHECK(lc.norm[static_cast<size_t>(e)] == doctest::Approx(norm[static_cast<size_t>(e)]).epsilon(1e-4));
      CHECK(lc.gate_norm[static_cast<size_t>(e)] == doctest::Approx(weighted[static_cast<size_t>(e)]).epsilon(1e-4));
    }
  }
}

TEST_CASE("batches and threads change nothing") {
  const auto m = load_model(reference_path("qwen3moe"));
  const Text text = random_text(*m, {16, 3, 16, 9, 5, 16});
  const Calibration c = calibrated(*m, text.view(), {.n_sampled = 10, .batch_tokens = 512});
  const auto other = load_model(reference_path("qwen3moe"), {true, 3, ""});
  int64_t seen = 0;
  CalibrationOptions o{.n_sampled = 10, .batch_tokens = 1};
  o.on_progress = [&](int64_t done) { return seen = done, true; };
  const Calibration d = calibrated(*other, text.view(), o);
  CHECK(seen == 65);
  CHECK(c.sampled == d.sampled);
  for (size_t l = 0; l < c.layers.size(); ++l) {
    CHECK(c.layers[l].use == d.layers[l].use);
    CHECK(c.layers[l].gate == d.layers[l].gate);
    CHECK(c.layers[l].gate_norm == d.layers[l].gate_norm);
    CHECK(c.layers[l].entropy == d.layers[l].entropy);
    CHECK(c.layers[l].together == d.layers[l].together);
    CHECK(same_bits(c.layers[l].x, d.layers[l].x));
    CHECK(same_bits(c.layers[l].logits, d.layers[l].logits));
  }
  CHECK(c.bytes() > c.layers[0].x.size() * sizeof(float));
}

TEST_CASE("a sample is ascending, without repeats, and spread over the text") {
  const std::vector<int64_t> s = sample_positions(7, 100'000, 1000);
  CHECK(s.size() == 1000);
  CHECK(std::is_sorted(s.begin(), s.end()));
  CHECK(std::set<int64_t>(s.begin(), s.end()).size() == 1000);
  int halves[2] = {};
  for (const int64_t i : s) ++halves[i >= 50'000];
  CHECK(std::abs(halves[0] - 500) < 80);  // 5 σ
  CHECK(sample_positions(7, 100'000, 1000) == s);
  CHECK(sample_positions(8, 100'000, 1000) != s);
  CHECK(sample_positions(7, 3, 10) == std::vector<int64_t>{0, 1, 2});
}

TEST_CASE("texts that are none are refused") {
  const auto m = load_model(reference_path("olmoe"));
  const Text text = random_text(*m, {4, 5});
  const auto refused = [&](const CalibrationText& t, const char* why) {
    const auto c = calibrate(*m, t);
    REQUIRE(!c.ok());
    CHECK(has_text(c.status(), why));
  };
  refused({}, "wanted sequences of 0 tokens");
  refused({text.tokens, std::span(text.lengths).first(1)}, "found 4");
  const std::vector<int> one_domain = {0}, negative = {0, -1};
  refused({text.tokens, text.lengths, one_domain}, "wanted domains of 2 sequences, found 1");
  refused({text.tokens, text.lengths, negative}, "wanted domains below 256, found -1");
  const std::vector<int> zero = {9, 0};
  refused({text.tokens, zero}, "1 token or more, found 0");
  const std::vector<Token> bad(9, 1 << 20);
  refused({bad, text.lengths}, "wanted token ids below");
  const std::vector<uint8_t> few = {0, 1};
  refused({text.tokens, text.lengths, {}, 2, few}, "classes");
  RoutingTopology narrow = full_topology(m->routing_shape());
  narrow.layers[0].allow[1] = 0;
  const TempFolder folder;
  ModelFile file = read_model(reference_path("olmoe"));
  file.metadata.set<std::string>(kTopologyKey, to_json(narrow));
  CHECK(has_text(calibrate(*load_model(file.write(folder)), text.view()).status(), "brings a topology"));
  CalibrationOptions o;
  o.on_progress = [](int64_t) { return false; };
  CHECK(calibrate(*m, text.view(), o).status().code() == StatusCode::kCancelled);
}

TEST_CASE("saliencies of a layer by hand") {
  Calibration c;
  c.n_classes = 2, c.tokens = {6, 4};
  LayerCalibration l;
  l.n_experts = 3;
  //        class 0: experts 0, 1, 2     class 1
  l.use = {4, 2, 0, /**/ 1, 3, 0};
  l.gate = {2.0, 0.5, 0, /**/ 0.5, 1.5, 0};
  l.norm = {8.0, 6.0, 0, /**/ 2.0, 9.0, 0};
  l.gate_norm = {4.0, 1.0, 0, /**/ 1.0, 5.0, 0};
  c.layers = {LayerCalibration{}, l};
  struct Wanted {
    const char* name;
    std::vector<double> all, second;
  };
  const Wanted wanted[] = {{"frequency", {0.5, 0.5, 0}, {0.25, 0.75, 0}},
                           {"gate", {2.5, 2.0, 0}, {0.5, 1.5, 0}},
                           {"ean", {10.0, 15.0, 0}, {2.0, 9.0, 0}},
                           {"reap", {1.0, 1.2, 0}, {1.0, 5.0 / 3, 0}},
                           {"man", {2.0, 3.0, 0}, {2.0, 3.0, 0}}};
  CHECK(std::size(wanted) == all_saliencies().size());
  for (const Wanted& w : wanted) {
    CAPTURE(w.name);
    const auto s = find_saliency(w.name);
    REQUIRE(s.ok());
    const auto all = saliency_table(**s, c), second = saliency_table(**s, c, 1);
    CHECK(all[0].empty());
    for (size_t e = 0; e < 3; ++e) {
      CHECK(all[1][e] == doctest::Approx(w.all[e]));
      CHECK(second[1][e] == doctest::Approx(w.second[e]));
    }
  }
  CHECK(has_text(find_saliency("best").status(), "known: frequency, gate, ean, reap, man"));
}

}  // namespace
}  // namespace moe

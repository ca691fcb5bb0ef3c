// The Gram cache against forward passes of the layer, and against sums by hand.
#include <doctest/doctest.h>

#include <cmath>

#include "evolution/gram_evaluator.h"
#include "tests/evolution/gram_fixture.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

std::unique_ptr<GramEvaluator> evaluator_of(const GramCache& cache) {
  auto e = GramEvaluator::create(cache);
  REQUIRE_MESSAGE(e.ok(), e.status().message());
  return std::move(e).value();
}

LayerError evaluated(GramEvaluator& evaluator, int layer, const LayerRouting& routing, const SampleClasses& classes) {
  LayerError e;
  const Status s = evaluator.evaluate(layer, routing, classes, e);
  REQUIRE_MESSAGE(s.ok(), s.message());
  return e;
}

bool same(const LayerError& a, const LayerError& b) {
  return a.error == b.error && a.class_error == b.class_error && a.domain_error == b.domain_error && a.load == b.load &&
         a.k_mean == b.k_mean && a.work_mean == b.work_mean && a.escaped == b.escaped;
}

Calibration calibrated(const Model& m, int n_sampled) {
  const std::vector<Token> tokens = random_tokens(64, m.config().n_vocab, 3);
  const std::vector<int> lengths = {16, 16, 32};
  auto c = calibrate(m, {.tokens = tokens, .lengths = lengths}, {.n_sampled = n_sampled});
  REQUIRE_MESSAGE(c.ok(), c.status().message());
  return std::move(c).value();
}

struct Setting {
  const char* model;
  bool exact, widths;
};
constexpr Setting kSettings[] = {{"olmoe", true, true},     {"qwen3moe", false, false}, {"qwen2moe", true, false},
                                 {"mixtral", true, false},  {"granitemoe", true, true}, {"gpt-oss", true, false},
                                 {"deepseek2", true, true}, {"deepseek3", true, true}};

TEST_CASE("the error of a routing is that of a forward pass of the layer") {
  int n_routings = 0;
  for (const Setting& s : kSettings) {
    CAPTURE(s.model);
    const auto m = load_model(reference_path(s.model), {s.exact, 1, ""});
    const Calibration c = calibrated(*m, 24);
    auto collected = collect_gram(*m, c, {.widths = s.widths});
    REQUIRE_MESSAGE(collected.ok(), collected.status().message());
    const GramCache& cache = *collected;
    const auto evaluator = evaluator_of(cache);
    std::vector<uint8_t> token_class(static_cast<size_t>(m->config().n_vocab));
    for (size_t i = 0; i < token_class.size(); ++i) token_class[i] = i % 5 < 2;
    const SampleClasses classes = cache.classes(2, token_class);
    Rng rng(11);
    for (int l = 0; l < cache.n_layers(); ++l) {
      if (cache.layer(l).is_dense()) continue;
      CAPTURE(l);
      ForwardError forward(*m, c, l);
      for (int i = 0; i < (kSanitized ? 10 : 80); ++i, ++n_routings) {
        const LayerRouting r = random_routing(m->routing_shape(), static_cast<size_t>(l), 2, s.widths, rng);
        const LayerError e = evaluated(*evaluator, l, r, classes);
        const double wanted = forward(r, 2, token_class);
        CHECK(std::fabs(e.error - wanted) <= 1e-4 * wanted + 1e-12);
        CHECK(e.escaped == 0);
      }
    }
  }
  CHECK((kSanitized || n_routings >= 1000));
}

// Two tokens, three experts whose outputs for token t are these, k = 1 of normalised softmax.
struct ByHand {
  std::vector<float> logits = {3, 2, 1, /**/ 1, 3, 2};
  std::vector<float> outputs = {2, 0, 2, 0, 0, 1, /**/ 0, 1, 3, 4, 1, 0};  // (2 tokens, 3 experts, 2)
  GramSource source;
  explicit ByHand(int k) {
    RouterModel r;
    r.shape.n_experts = 3, r.shape.k = k, r.shape.d_ff = 4;
    r.attrs.n_experts = 3, r.attrs.normalize = true;
    source.d = 2, source.tokens = {7, 9};
    source.layers = {{r, logits}};
    source.outputs = [this](const ExpertQuestion& q, std::span<float> y) {
      for (size_t i = 0; i < q.ids.size(); ++i) {
        const size_t token = static_cast<size_t>(q.first) + i / static_cast<size_t>(q.m);
        for (size_t j = 0; j < 2; ++j) y[2 * i + j] = outputs[(token * 3 + q.ids[i]) * 2 + j];
      }
      return Status::Ok();
    };
  }
};

LayerRouting routing_of_three(std::vector<uint8_t> allow, int k) {
  LayerRouting r;
  r.n_experts = 3, r.allow = std::move(allow), r.k_min = r.k_max = k;
  return r;
}

TEST_CASE("errors by hand: experts that stand in for each other, and classes") {
  const ByHand hand(1);
  const GramCache cache = build_cache(hand.source);
  const auto evaluator = evaluator_of(cache);
  const SampleClasses one = cache.classes(1, {});
  // The full model: token 0 has expert 0, (2, 0); token 1 has expert 1, (3, 4). ‖y‖² = 4 + 25.
  const LayerError full = evaluated(*evaluator, 0, routing_of_three({1, 1, 1}, 1), one);
  CHECK(full.error == 0);
  CHECK(full.load == std::vector<uint32_t>{1, 1, 0});
  CHECK(full.k_mean == 1);
  // Without 0 token 0 has expert 1, which does the same; without 0 and 1 expert 2: (2, −1)² = 5, (2, 4)² = 20.
  CHECK(evaluated(*evaluator, 0, routing_of_three({0, 1, 1}, 1), one).error == 0);
  const LayerError both = evaluated(*evaluator, 0, routing_of_three({0, 0, 1}, 1), one);
  CHECK(both.error == doctest::Approx(25.0 / 29));
  CHECK(both.load == std::vector<uint32_t>{0, 0, 2});
  const LayerError skipped = evaluated(*evaluator, 0, routing_of_three({1, 1, 1}, 0), one);
  CHECK(skipped.error == 1);
  CHECK(skipped.k_mean == 0);
  // Token 7 is of class 0, token 9 of class 1, which has expert 2 only.
  std::vector<uint8_t> token_class(10, 0);
  token_class[9] = 1;
  const LayerError apart = evaluated(*evaluator, 0, routing_of_three({1, 1, 1, 0, 0, 1}, 1), cache.classes(2, token_class));
  CHECK(apart.class_error[0] == 0);
  CHECK(apart.class_error[1] == doctest::Approx(20.0 / 25));
  CHECK(apart.error == doctest::Approx(20.0 / 29));
  CHECK(apart.domain_error == std::vector<double>{apart.error});
  ByHand kinds(1);
  kinds.source.domains = {2, 0};
  const GramCache of_kinds = build_cache(kinds.source);
  const LayerError e = evaluated(*evaluator_of(of_kinds), 0, routing_of_three({0, 0, 1}, 1), one);
  CHECK(e.domain_error[0] == doctest::Approx(20.0 / 25));
  CHECK(e.domain_error[1] == 0);
  CHECK(e.domain_error[2] == doctest::Approx(5.0 / 4));
}

TEST_CASE("errors by hand: weights") {
  const ByHand hand(2);
  const GramCache cache = build_cache(hand.source);
  const auto evaluator = evaluator_of(cache);
  // Token 0 mixes experts 0 and 1, token 1 experts 1 and 2, both by w = 1 / (1 + e⁻¹) and 1 − w.
  const double w = 1 / (1 + std::exp(-1.0)), v = 1 - w;
  const double y0 = 4, y1 = (3 * w + v) * (3 * w + v) + 16 * w * w;
  // k = 1: token 0 has (2, 0) all the same; token 1 gains v of (3, 4) and loses v of (1, 0).
  const double d1 = 4 * v * v + 16 * v * v;
  const LayerError e = evaluated(*evaluator, 0, routing_of_three({1, 1, 1}, 1), cache.classes(1, {}));
  CHECK(e.error == doctest::Approx(d1 / (y0 + y1)).epsilon(1e-6));
  CHECK(cache.layer(0).power[1] == doctest::Approx(y1).epsilon(1e-6));
  CHECK(cache.layer(0).longest == doctest::Approx(5));
}

TEST_CASE("tokens that escape are counted and charged no less than they cost") {
  RoutingShape::Layer layer;
  layer.n_experts = 32, layer.k = 4, layer.d_ff = 8;
  const SyntheticLayers synthetic(layer, 1, 64, 12);
  const GramCache all = build_cache(synthetic.source), some = build_cache(synthetic.source, {.n_candidates = 10});
  CHECK(some.layer(0).m == 10);
  CHECK(some.bytes() < all.bytes());
  CHECK(some.token_layers() == 64 * 10 / 4.0);
  const auto exact = evaluator_of(all), bound = evaluator_of(some);
  const SampleClasses classes = all.classes(1, {});
  Rng rng(4);
  int n_escaped = 0, n_alike = 0;
  for (int i = 0; i < 60; ++i) {
    const LayerRouting r = random_routing(synthetic.shape, 0, 1, false, rng);
    const LayerError a = evaluated(*exact, 0, r, classes), b = evaluated(*bound, 0, r, classes);
    CHECK(a.escaped == 0);
    CHECK(b.load == a.load);
    CHECK(b.error >= a.error * (1 - 1e-6));
    if (b.escaped == 0) CHECK(b.error == doctest::Approx(a.error).epsilon(1e-6));
    n_escaped += b.escaped > 0, n_alike += b.escaped == 0;
  }
  CHECK(n_escaped > 0);
  CHECK(n_alike > 0);
}

TEST_CASE("nothing depends on threads") {
  RoutingShape::Layer layer;
  layer.n_experts = 16, layer.k = 2, layer.d_ff = 8;
  const SyntheticLayers synthetic(layer, 3, 40, 20);
  const GramCache cache = build_cache(synthetic.source, {.n_candidates = 12, .widths = true}, 1);
  const GramCache other = build_cache(synthetic.source, {.n_candidates = 12, .widths = true}, 3);
  for (int l = 0; l < 3; ++l) CHECK(same_bits(cache.layer(l).gram, other.layer(l).gram));
  const SampleClasses classes = cache.classes(1, {});
  Rng rng(9);
  GenePool genes;
  std::vector<LayerRef> layers;
  std::vector<GramJob> jobs;
  layers.reserve(50), jobs.reserve(50);
  for (int i = 0; i < 50; ++i) {
    RoutingTopology t = full_topology(synthetic.shape);
    const auto l = static_cast<size_t>(i % 3);
    t.layers[l] = random_routing(synthetic.shape, l, 1, true, rng);
    layers.push_back(genome_of(t, synthetic.shape, genes).value().layers[l]);
    jobs.push_back({i % 3, &layers.back()->value, &classes});
  }
  const auto alone = evaluator_of(cache);
  for (const int n_threads : {1, 3}) {
    ThreadPool threads(n_threads);
    auto pool = GramPool::create(cache, threads);
    REQUIRE(pool.ok());
    std::vector<LayerError> results(jobs.size());
    REQUIRE((*pool)->evaluate(jobs, results).ok());
    for (size_t i = 0; i < jobs.size(); ++i) {
      LayerError e;
      REQUIRE(alone->evaluate(jobs[i].layer, *jobs[i].gene, classes, e).ok());
      CHECK(same(results[i], e));
    }
    const std::vector<GramJob> wrong = {jobs[0], {7, jobs[0].gene, &classes}};
    CHECK(has_text((*pool)->evaluate(wrong, std::span(results).first(2)), "layer 7 has no gene of 16 experts"));
  }
}

TEST_CASE("a gene is priced as the routing it stands for") {
  RoutingShape::Layer layer;
  layer.n_experts = 16, layer.k = 2, layer.d_ff = 8;
  const SyntheticLayers synthetic(layer, 1, 40, 20);
  const GramCache cache = build_cache(synthetic.source, {.widths = true});
  const auto evaluator = evaluator_of(cache);
  GenePool pool;
  Rng rng(2);
  for (int i = 0; i < 20; ++i) {
    RoutingTopology t = full_topology(synthetic.shape);
    t.layers[0] = random_routing(synthetic.shape, 0, 1, true, rng);
    const auto genome = genome_of(t, synthetic.shape, pool);
    REQUIRE_MESSAGE(genome.ok(), genome.status().message());
    LayerError e;
    REQUIRE(evaluator->evaluate(0, genome->layers[0]->value, cache.classes(1, {}), e).ok());
    CHECK(same(e, evaluated(*evaluator, 0, t.layers[0], cache.classes(1, {}))));
  }
}

TEST_CASE("work counts channels") {
  const ByHand hand(1);
  GramCache cache = build_cache(hand.source, {.widths = true});
  const auto evaluator = evaluator_of(cache);
  LayerRouting r = routing_of_three({1, 1, 1}, 1);
  r.width = {1, 4, 4};  // of 4 channels; token 0 uses expert 0, token 1 expert 1
  const LayerError e = evaluated(*evaluator, 0, r, cache.classes(1, {}));
  CHECK(e.k_mean == 1);
  CHECK(e.work_mean == (0.25 + 1) / 2);
  CHECK(e.error == 0);  // these experts do the same at every width
}

TEST_CASE("1,024 experts in 64 layers with 48 candidates take 140 MiB for 256 tokens") {
  RoutingShape::Layer layer;
  layer.n_experts = 1024, layer.k = 8, layer.d_ff = 8;
  const int n_tokens = kSanitized ? 16 : 256;
  const SyntheticLayers synthetic(layer, 64, n_tokens, 4);
  const GramCache cache = build_cache(synthetic.source, {.n_candidates = 48});
  // A token and layer: 48 · 49 / 2 products (73.5 MiB of all), 1,024 logits (64), 48 ids, 8 columns and weights, one ‖y‖².
  const double numbers = 4.0 * (48 * 49 * 0.5 + 1024 + 8 + 8 + 1) + 2 * 48;
  CHECK(static_cast<double>(cache.bytes()) < numbers * n_tokens * 64 + 64 * 1024);
  CHECK(numbers * 256 * 64 < 141.0 * (1 << 20));
}

TEST_CASE("what a cache cannot price is refused") {
  const ByHand hand(1);
  const GramCache cache = build_cache(hand.source);
  const auto evaluator = evaluator_of(cache);
  const SampleClasses one = cache.classes(1, {});
  LayerError e;
  const auto refused = [&](int layer, const LayerRouting& r, const char* why) {
    const Status s = evaluator->evaluate(layer, r, one, e);
    CHECK(!s.ok());
    CHECK(has_text(s, why));
  };
  LayerRouting r = routing_of_three({1, 1, 1}, 1);
  refused(1, r, "layer 1 is not routed");
  r.width = {4, 3, 4};
  refused(0, r, "expert 1: wanted the whole width, the cache has no other, found 3 of 4 channels");
  r = routing_of_three({1, 1, 1, 1, 1, 1}, 1);
  refused(0, r, "not one of 3 experts and 1 classes");
  r = routing_of_three({1, 1, 1}, 4);
  refused(0, r, "not one of 3 experts");

  const std::unique_ptr<Backend> backend = router_backend();
  ThreadPool pool(1);
  GramSource nothing;
  CHECK(has_text(GramCache::build(nothing, {}, *backend, pool).status(), "no sampled tokens"));
  GramSource few = hand.source;
  few.tokens.push_back(1);
  CHECK(has_text(GramCache::build(few, {}, *backend, pool).status(), "router logits of 3 tokens and 3 experts, found 6"));
  const auto m = load_model(reference_path("olmoe"));
  const Calibration c = calibrated(*load_model(reference_path("mixtral")), 4);
  CHECK(has_text(collect_gram(*m, c, {}).status(), "another model"));
  const Calibration own = calibrated(*m, 4);
  CHECK(collect_gram(*m, own, {}, [](int) { return false; }).status().code() == StatusCode::kCancelled);
}

}  // namespace
}  // namespace moe

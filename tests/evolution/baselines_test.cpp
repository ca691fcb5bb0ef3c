// Baselines: exact budgets, the ranks they go by, and least sums against all there are.
#include "evolution/baselines.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <set>
#include <string>

#include "evolution/genome_draft.h"
#include "evolution/local_searches.h"
#include "evolution/repair.h"
#include "evolution/saliency.h"
#include "tests/evolution/evolution_fixture.h"
#include "tests/evolution/gram_fixture.h"

namespace moe {
namespace {

using namespace test;

// Measurements that nobody took: of 1,000 tokens, all kinds of sums drawn.
Calibration drawn_calibration(const RoutingShape& shape, uint64_t seed) {
  Calibration c;
  c.tokens = {1000};
  Rng rng(seed);
  for (const RoutingShape::Layer& s : shape.layers) {
    LayerCalibration& l = c.layers.emplace_back();
    l.n_experts = s.n_experts;
    for (int e = 0; e < s.n_experts; ++e) {
      l.use.push_back(static_cast<int64_t>(1 + rng.below(500)));
      l.gate.push_back(rng.uniform_double()), l.norm.push_back(rng.uniform_double());
      l.gate_norm.push_back(rng.uniform_double());
    }
  }
  return c;
}

SearchSpace space_of(const RoutingShape& shape, const Constraints& constraints = {}) {
  Result<SearchSpace> space = SearchSpace::create(shape, constraints);
  REQUIRE_MESSAGE(space.ok(), space.status().message());
  return *std::move(space);
}

Genome kept(const char* name, const BaselineInput& input, int64_t n, GenePool& pool) {
  Result<Genome> g = kept_baseline(name, input, n, pool);
  REQUIRE_MESSAGE(g.ok(), g.status().message());
  return *std::move(g);
}

Genome worked(const char* name, const BaselineInput& input, double work, GenePool& pool) {
  Result<Genome> g = work_baseline(name, input, work, pool);
  REQUIRE_MESSAGE(g.ok(), g.status().message());
  return *std::move(g);
}

// Three layers of 6 experts, 2 of them used, with a Gram cache of 48 tokens.
struct Small {
  Small() : layers({6, 2, 128, 32}, 3, 48, 8), cache(build_cache(layers.source, {.widths = true})) {
    calibration = drawn_calibration(layers.shape, 3);
    input = {&space, &calibration, &cache, {}, nullptr, 5};
  }
  LayerError error(int layer, const LayerGene& gene) const {
    LayerError e;
    REQUIRE(GramEvaluator::create(cache).value()->evaluate(layer, gene, cache.classes(1, {}), e).ok());
    return e;
  }
  double sum(const Genome& g) const {
    double total = 0;
    for (int l = 0; l < 3; ++l) total += error(l, g.layers[static_cast<size_t>(l)]->value).length;
    return total;
  }
  SyntheticLayers layers;
  GramCache cache;
  SearchSpace space = space_of(layers.shape);
  Calibration calibration;
  BaselineInput input;
  GenePool pool;
};

TEST_CASE("every baseline keeps exactly as many experts as asked for, and what the constraints protect") {
  Constraints c;
  c.protect = {{}, {5}, {3}, {0}};
  const RoutingShape shape = four_layers();  // one of them dense, one with groups
  const SearchSpace space = space_of(shape, c);
  const Calibration calibration = drawn_calibration(shape, 1);
  GenePool pool;
  const BaselineInput input{&space, &calibration};
  int n_made = 0;
  for (const BaselineDef& def : kept_baselines()) {
    if (def.needs_gram) continue;
    CAPTURE(def.name);
    for (int64_t n = 12; n <= 19; ++n, ++n_made) {
      const Genome g = kept(def.name, input, n, pool);
      c.kept = IntRange{n, n};
      const Status s = satisfies(g, space_of(shape, c));
      CHECK_MESSAGE(s.ok(), s.message());
      CHECK(validate(topology_of(g, shape), shape).ok());
      CHECK(hash(g) == hash(kept(def.name, input, n, pool)));
    }
    CHECK(hash(kept(def.name, input, 19, pool)) == hash(full_genome(space, pool)));
  }
  CHECK(n_made == 11 * 8);
}

TEST_CASE("baselines of the Gram cache keep as many as asked for") {
  Small s;
  for (const char* name : {"greedy", "dp", "greedy-dp"})
    for (int64_t n = 6; n <= 18; ++n) {
      Constraints c;
      c.kept = IntRange{n, n};
      CHECK(satisfies(kept(name, s.input, n, s.pool), space_of(s.layers.shape, c)).ok());
    }
}

TEST_CASE("saliency decides who stays: within layers, or between them") {
  Small s;
  const auto table = saliency_table(*find_saliency("reap").value(), s.calibration);
  const Genome uniform = kept("reap", s.input, 9, s.pool), global = kept("reap-global", s.input, 9, s.pool);
  float least_kept = 2, most_lost = 0;
  for (size_t l = 0; l < 3; ++l) {
    const LayerGene &u = uniform.layers[l]->value, &g = global.layers[l]->value;
    CHECK(u.n_kept() == 3);
    for (int a = 0; a < 6; ++a) {
      for (int b = 0; b < 6; ++b) {
        const bool more = table[l][static_cast<size_t>(a)] > table[l][static_cast<size_t>(b)];
        if (has_bit(u.row(0), a) && !has_bit(u.row(0), b)) CHECK(more);
      }
      if (has_bit(g.row(0), a)) {
        if (g.n_kept() > 2) least_kept = std::min(least_kept, table[l][static_cast<size_t>(a)]);
      } else {
        most_lost = std::max(most_lost, table[l][static_cast<size_t>(a)]);
      }
    }
  }
  CHECK(least_kept > most_lost);
}

TEST_CASE("what greedy removes first is the least missed, and it goes on from there") {
  Small s;
  const Genome full = full_genome(s.space, s.pool);
  for (const int64_t n : {15, 12}) {  // one expert a layer, then another
    const Genome before = n == 15 ? full : kept("greedy", s.input, 15, s.pool);
    const Genome after = kept("greedy", s.input, n, s.pool);
    for (size_t l = 0; l < 3; ++l) {
      const double found = s.error(static_cast<int>(l), after.layers[l]->value).error;
      for (int e = 0; e < 6; ++e) {
        LayerGene gene = before.layers[l]->value;
        if (!has_bit(gene.row(0), e)) continue;
        set_bit(gene.row(0), e, false);
        CHECK(found <= s.error(static_cast<int>(l), gene).error);
      }
    }
  }
}

TEST_CASE("levels of least error are those that trying all finds") {
  Rng rng(1);
  int n_empty = 0;
  for (int draw = 0; draw < 300; ++draw) {
    std::vector<std::vector<double>> error(3);
    std::vector<std::vector<int>> cost(3);
    for (size_t i = 0; i < 3; ++i) {
      for (int level = 0; level < 4; ++level) {
        error[i].push_back(rng.uniform_double());
        cost[i].push_back(static_cast<int>(rng.below(6)));
      }
    }
    const int budget = static_cast<int>(rng.below(14));
    const bool exactly = draw % 2;
    double least = HUGE_VAL;
    for (size_t all = 0; all < 64; ++all) {
      const size_t a = all % 4, b = all / 4 % 4, c = all / 16;
      const int spent = cost[0][a] + cost[1][b] + cost[2][c];
      if (exactly ? spent == budget : spent <= budget) least = std::min(least, error[0][a] + error[1][b] + error[2][c]);
    }
    const std::vector<int> found = least_error_levels(error, cost, budget, exactly);
    n_empty += found.empty();
    CHECK(found.empty() == (least == HUGE_VAL));
    if (found.empty()) continue;
    double sum = 0;
    int spent = 0;
    for (size_t i = 0; i < 3; ++i) {
      sum += error[i][static_cast<size_t>(found[i])];
      spent += cost[i][static_cast<size_t>(found[i])];
    }
    CHECK((exactly ? spent == budget : spent <= budget));
    CHECK(sum == doctest::Approx(least));
  }
  CHECK(n_empty > 5);
  CHECK(n_empty < 150);
}

TEST_CASE("allocation by least error is no worse than the same share of every layer") {
  Small s;
  bool better = false;
  for (int64_t n = 7; n < 18; ++n) {
    const double dp = s.sum(kept("greedy-dp", s.input, n, s.pool)), uniform = s.sum(kept("greedy", s.input, n, s.pool));
    CHECK(dp <= uniform + 1e-12);
    better |= dp < uniform - 1e-6;
    CHECK(s.sum(kept("dp", s.input, n, s.pool)) <= s.sum(kept("reap", s.input, n, s.pool)) + 1e-12);
  }
  CHECK(better);
}

TEST_CASE("weights of layers move experts to where they matter") {
  Small s;
  const std::vector<double> weights = {100, 1, 1};
  s.input.layer_weights = weights;
  CHECK(kept("dp", s.input, 12, s.pool).layers[0]->value.n_kept() == 6);
}

int64_t sum_of_k(const Genome& g) {
  int64_t sum = 0;
  for (const LayerRef& l : g.layers) sum += l->value.k_max;
  return sum;
}

TEST_CASE("work saved by fewer experts a token is at most what was asked for, and the nearest below it") {
  Small s;
  for (const char* name : {"uniform-k", "random-k", "k-dp"}) {
    for (int spent = 3; spent <= 6; ++spent) {
      CAPTURE(name);
      CHECK(sum_of_k(worked(name, s.input, spent / 6.0, s.pool)) == spent);
      if (spent < 6) CHECK(sum_of_k(worked(name, s.input, spent / 6.0 + 0.1, s.pool)) == spent);
    }
    CHECK(hash(worked(name, s.input, 1, s.pool)) == hash(full_genome(s.space, s.pool)));
  }
  // Two layers of one expert and one of two: the least error of the three ways.
  double least = HUGE_VAL;
  for (size_t l = 0; l < 3; ++l) {
    Genome g = worked("uniform-k", s.input, 0.5, s.pool);
    g.layers[l] = full_genome(s.space, s.pool).layers[l];
    least = std::min(least, s.sum(g));
  }
  CHECK(s.sum(worked("k-dp", s.input, 4 / 6.0, s.pool)) == doctest::Approx(least));
}

// Channels that a token runs in all layers, as a share of the full model's.
double work_of(const Genome& g, const RoutingShape& shape) {
  double spent = 0, full = 0;
  for (size_t l = 0; l < g.layers.size(); ++l) {
    const LayerGene& gene = g.layers[l]->value;
    spent += gene.k_max * channels_of(gene.quarters(0), shape.layers[l]);
    full += shape.layers[l].k * shape.layers[l].d_ff;
  }
  return spent / full;
}

TEST_CASE(
    "numbers and widths together: the least error of all ways to spend the work, one way for all layers or each its own") {
  Small s;
  const auto genome_at = [&](const std::array<int, 3>& level) {  // k = 1, 2 of each width
    GenomeDraft draft(full_genome(s.space, s.pool));
    for (int l = 0; l < 3; ++l) {
      const int at = level[static_cast<size_t>(l)];
      draft.edit(l).k_min = draft.edit(l).k_max = 1 + at / kQuarters;
      for (int e = 0; e < 6; ++e) draft.edit(l).set_quarters(e, s.space.width_setting(l, 1 + at % kQuarters));
    }
    return draft.finish(s.pool, {});
  };
  for (const double work : {0.2, 0.45, 0.8}) {
    double least = HUGE_VAL, least_uniform = HUGE_VAL;
    for (int i = 0; i < 8 * 8 * 8; ++i) {
      const std::array<int, 3> level = {i / 64, i / 8 % 8, i % 8};
      const Genome g = genome_at(level);
      if (work_of(g, s.layers.shape) > work + 1e-9) continue;
      const double sum = s.sum(g);
      least = std::min(least, sum);
      if (level[0] == level[1] && level[1] == level[2]) least_uniform = std::min(least_uniform, sum);
    }
    CAPTURE(work);
    const Genome each = worked("k-width-dp", s.input, work, s.pool), one = worked("k-width", s.input, work, s.pool);
    CHECK(s.sum(each) == doctest::Approx(least));
    CHECK(s.sum(one) == doctest::Approx(least_uniform));
    CHECK(work_of(each, s.layers.shape) <= work + 1e-9);
    CHECK(work_of(one, s.layers.shape) <= work + 1e-9);
  }
  CHECK_FALSE(work_baseline("k-width", s.input, 0.1, s.pool).ok());
}

TEST_CASE("random candidates of a share of the work spend it: nothing more would fit") {
  Small s;
  std::set<uint64_t> drawn;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Rng rng(seed);
    const Result<Genome> g = random_candidate(s.space, 0.5, rng, s.pool);
    REQUIRE_MESSAGE(g.ok(), g.status().message());
    CHECK(satisfies(*g, s.space).ok());
    const double spent = work_of(*g, s.layers.shape);
    CHECK(spent <= 0.5);
    CHECK(spent > 0.5 - 1 / 6.0);  // of six experts one more at most
    drawn.insert(hash(*g));
  }
  CHECK(drawn.size() > 25);
  Rng rng(1);
  CHECK_FALSE(random_candidate(s.space, 0.05, rng, s.pool).ok());
}

TEST_CASE("layers are skipped only where the space allows it") {
  Small s;
  CHECK_FALSE(work_baseline("uniform-k", s.input, 0.3, s.pool).ok());
  Constraints c;
  c.skip = true;
  const SearchSpace skipping = space_of(s.layers.shape, c);
  s.input.space = &skipping;
  for (const char* name : {"uniform-k", "random-k", "k-dp"}) CHECK(sum_of_k(worked(name, s.input, 0.34, s.pool)) == 2);
}

TEST_CASE("a threshold meets the work on the sample, widths on the calibration") {
  Small s;
  for (const double work : {0.6, 0.75, 0.9}) {
    const Genome g = worked("threshold", s.input, work, s.pool);
    double k = 0;
    for (int l = 0; l < 3; ++l) k += s.error(l, g.layers[static_cast<size_t>(l)]->value).k_mean;
    CHECK(k / 6 <= work);
    CHECK(k / 6 > work - 0.02);
    const Genome narrow = worked("width", s.input, work, s.pool);
    double spent = 0, full = 0;
    for (size_t l = 0; l < 3; ++l) {
      for (int e = 0; e < 6; ++e) {
        const auto use = static_cast<double>(s.calibration.layers[l].use[static_cast<size_t>(e)]);
        const int quarters = narrow.layers[l]->value.quarters(e);
        spent += use * quarters, full += use * 4;
        CHECK((quarters == static_cast<int>(4 * work) || quarters == static_cast<int>(4 * work) + 1));
      }
    }
    CHECK(spent / full <= work);
    CHECK(spent / full > work - 0.05);
  }
}

TEST_CASE("what cannot be is refused by name") {
  Small s;
  const auto message = [](const Result<Genome>& r) { return r.ok() ? std::string() : r.status().message(); };
  CHECK(message(kept_baseline("luck", s.input, 9, s.pool)).find("reap-global") != std::string::npos);
  CHECK(message(work_baseline("reap", s.input, 0.5, s.pool)).find("uniform-k") != std::string::npos);
  CHECK(message(kept_baseline("reap", s.input, 5, s.pool)).find("wanted 6 to 18") != std::string::npos);
  CHECK(message(kept_baseline("reap", s.input, 19, s.pool)).find("wanted 6 to 18") != std::string::npos);
  CHECK(message(work_baseline("width", s.input, 0.2, s.pool)).find("no width") != std::string::npos);
  CHECK(message(work_baseline("threshold", s.input, 0.4, s.pool)).find("one expert a token") != std::string::npos);
  for (const double work : {0.0, -1.0, 1.5, std::nan("")}) CHECK_FALSE(work_baseline("width", s.input, work, s.pool).ok());
  s.input.gram = nullptr;
  for (const char* name : {"greedy", "dp", "greedy-dp"})
    CHECK(message(kept_baseline(name, s.input, 9, s.pool)).find("needs a Gram cache") != std::string::npos);
}

}  // namespace
}  // namespace moe

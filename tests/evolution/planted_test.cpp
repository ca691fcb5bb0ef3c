// Searching a model whose best routing is known.
#include "tests/evolution/planted.h"

#include <doctest/doctest.h>

#include <cmath>

#include "evolution/baselines.h"
#include "evolution/fitness.h"
#include "evolution/local_searches.h"
#include "evolution/saliency.h"
#include "evolution/search.h"

namespace moe {
namespace {

using namespace test;

constexpr double kNothing = 1e-6, kHarm = 1e-3;  // divergences, nats

struct Planted {
  explicit Planted(const ModelFile& file = planted_model()) : model(load_model(file.write(folder))) {
    TextDataOptions o;
    o.n_ctx = 40, o.block_tokens = 80;
    auto text = TextData::create(planted_text(20), o);
    REQUIRE_MESSAGE(text.ok(), text.status().message());
    FitnessOptions f;
    f.n_sampled = 128, f.score_tokens = 240, f.probe_tokens = 160, f.rungs = 1;
    auto made = Fitness::create(*model, *std::move(text), f);
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    fitness = *std::move(made);
    Constraints c;
    c.kept = IntRange{kPlantedKept, kPlantedKept};
    c.narrowest = kQuarters;
    Guides g;
    g.saliency = saliency_table(*find_saliency("reap").value(), fitness->calibration());
    space = std::make_unique<SearchSpace>(SearchSpace::create(model->routing_shape(), c, g).value());
    objectives.objectives = {find_objective("kl").value()};
  }
  double kl(const Genome& g) {
    Evaluation e;
    REQUIRE(fitness->confirm({&g, 1}, {&e, 1}).ok());
    return e.kl;
  }
  // The model without these experts.
  Genome without(const std::vector<int>& first, const std::vector<int>& second) {
    RoutingTopology t = full_topology(model->routing_shape());
    for (const int e : first) t.layers[0].allow[static_cast<size_t>(e)] = 0;
    for (const int e : second) t.layers[1].allow[static_cast<size_t>(e)] = 0;
    return genome_of(t, model->routing_shape(), *pool).value();
  }
  BaselineInput input() const {
    return {space.get(), &fitness->calibration(), &fitness->gram(), fitness->layer_weights(), nullptr, 1};
  }
  LocalSearch local(double evaluations) {
    LocalSearch s;
    s.space = space.get(), s.objectives = &objectives, s.evaluator = fitness.get(), s.pool = pool.get();
    s.token_layers = evaluations * 2 * 240;
    return s;
  }

  TempFolder folder;
  std::unique_ptr<Model> model;
  std::unique_ptr<Fitness> fitness;
  std::unique_ptr<SearchSpace> space;
  ObjectiveSet objectives;
  std::shared_ptr<GenePool> pool = std::make_shared<GenePool>();
};

TEST_CASE("what was planted is the best there is, and no baseline finds it") {
  Planted p;
  for (const int z : {0, 1})
    for (const int y : {2, 3}) CHECK(p.kl(p.without({0, 1}, {z, y})) < kNothing);
  for (const Genome& g : {p.without({0}, {}), p.without({1}, {}), p.without({0, 2}, {}), p.without({1, 3}, {}),
                          p.without({}, {0, 1}), p.without({}, {2, 3}), p.without({6}, {}), p.without({}, {7})})
    CHECK(p.kl(g) > kHarm);
  for (const BaselineDef& def : kept_baselines()) {
    CAPTURE(def.name);
    CHECK(p.kl(kept_baseline(def.name, p.input(), kPlantedKept, *p.pool).value()) > kHarm);
  }
}

TEST_CASE("evolution finds what was planted") {
  Planted p;
  SearchOptions o;
  o.seed = 3, o.algorithm = "genetic", o.oversample = 8;
  o.settings.population = 16, o.settings.children = 16;
  o.limits.generations = 60, o.limits.target = kNothing;
  ThreadPool threads(1);
  auto search = Search::create(*p.space, Variation::create(*p.space).value(), p.objectives, o,
                               {kept_baseline("reap", p.input(), kPlantedKept, *p.pool).value()}, p.pool, *p.fitness, threads);
  REQUIRE_MESSAGE(search.ok(), search.status().message());
  while ((*search)->ended() == SearchEnd::kRunning) {
    const auto record = (*search)->step(0);
    REQUIRE_MESSAGE(record.ok(), record.status().message());
  }
  CHECK((*search)->ended() == SearchEnd::kTarget);
  REQUIRE((*search)->archive().size() > 0);
  CHECK((*search)->archive()[0].evaluation.kl < kNothing);
}

TEST_CASE("of experts that are all alike none wins: every mask is as good, and a search has nothing to find") {
  Planted p(identical_experts_model());
  for (const Genome& g : {p.without({0, 1}, {0, 2}), p.without({6, 7}, {6, 7}), p.without({0, 1, 2, 3}, {}),
                          kept_baseline("reap", p.input(), kPlantedKept, *p.pool).value(),
                          kept_baseline("random", p.input(), kPlantedKept, *p.pool).value()})
    CHECK(p.kl(g) < kNothing);
  const Result<LocalResult> best = random_search(p.local(30));
  REQUIRE_MESSAGE(best.ok(), best.status().message());
  CHECK(std::abs(best->evaluation.kl - p.kl(p.without({0, 1}, {0, 2}))) < kNothing);
}

TEST_CASE("genes that change nothing, written out, leave every number of the model as it is") {
  Planted p;
  RoutingTopology t = full_topology(p.model->routing_shape());
  for (size_t l = 0; l < t.layers.size(); ++l) {
    const RoutingShape::Layer& s = p.model->routing_shape().layers[l];
    const auto n = static_cast<size_t>(s.n_experts);
    t.layers[l].bias.assign(n, 0), t.layers[l].width.assign(n, s.d_ff), t.layers[l].redirect.assign(n, -1);
  }
  const Genome genomes[] = {p.without({}, {}), genome_of(t, p.model->routing_shape(), *p.pool).value()};
  Evaluation e[2];
  REQUIRE(p.fitness->held_out(genomes, e).ok());
  CHECK(e[1].kl == 0);
  CHECK(e[1].worst_domain_kl == 0);
  CHECK(e[1].nll == e[0].nll);
  CHECK(e[1].layer_error == 0);
  CHECK(e[1].resident_bytes == e[0].resident_bytes);
}

TEST_CASE("local searches keep the budget of experts, and level switches never find what was planted") {
  Planted p;
  const LocalSearch s = p.local(60);
  std::vector<LayerOrder> orders;
  for (int l = 0; l < 2; ++l) {
    const std::span<const float> value = p.space->saliency(l);
    orders.push_back(order_by(std::vector<double>(value.begin(), value.end()), l, *p.space));
  }
  const Genome first = kept_baseline("reap", p.input(), kPlantedKept, *p.pool).value();
  const double begun = p.kl(first);
  const Variation variation = Variation::create(*p.space).value();
  const Result<LocalResult> found[] = {random_search(s), hill_climb(s, variation), level_switch(s, first, orders)};
  for (const Result<LocalResult>& r : found) {
    REQUIRE_MESSAGE(r.ok(), r.status().message());
    CHECK(satisfies(r->genome, *p.space).ok());
    CHECK(r->evaluation.kl == p.kl(r->genome));
    CHECK(r->scored > 0);
  }
  CHECK(found[1]->evaluation.kl < begun);
  CHECK(found[2]->evaluation.kl <= begun);
  CHECK(found[2]->evaluation.kl > kHarm);
}

}  // namespace
}  // namespace moe

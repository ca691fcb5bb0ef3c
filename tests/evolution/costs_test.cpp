// Costs of genomes against two independent counts: what the specialised file has, and what the engine says of its graph.
#include "evolution/costs.h"

#include <doctest/doctest.h>

#include <cmath>

#include "models/specialise.h"
#include "tests/evolution/gram_fixture.h"
#include "tests/models/model_fixture.h"

using namespace moe;
using namespace moe::test;

namespace {

struct Case {
  std::unique_ptr<Model> model;
  ModelCosts costs;
  GenePool pool = {};

  explicit Case(const std::string& name) : model(load_model(reference_path(name))), costs(*ModelCosts::of(*model)) {}

  Genome genome(const RoutingTopology& t) {
    Result<Genome> g = genome_of(t, model->routing_shape(), pool);
    REQUIRE_MESSAGE(g.ok(), g.status().message());
    return *std::move(g);
  }
};

RoutingTopology random_valid(const RoutingShape& shape, Rng& rng) {
  RoutingTopology t = full_topology(shape);
  for (size_t i = 0; i < t.layers.size(); ++i)
    if (t.layers[i].n_experts > 0) t.layers[i] = random_routing(shape, i, 1, true, rng);
  return t;
}

// k experts a token in every routed layer, and the share of their channels that runs.
std::vector<LayerUse> uses_of(const RoutingTopology& t, double k, double share) {
  std::vector<LayerUse> uses(t.layers.size());
  for (size_t i = 0; i < uses.size(); ++i)
    if (t.layers[i].k_max > 0) uses[i].k_mean = k, uses[i].work_mean = k * share;
  return uses;
}

Evaluation cost_of(Case& c, const RoutingTopology& t, double k, double share) {
  Evaluation e;
  c.costs.fill(c.genome(t), uses_of(t, k, share), e);
  return e;
}

// The engine's count of products with weights for one token of a model: its ops' costs, without the additions of biases.
double product_flops(const Model& model, const RoutingShape& before, double work) {
  Result<ModelGraph> made = model.simple_graph({});
  REQUIRE(made.ok());
  const Graph& g = made->graph;
  double flops = 0;
  for (const Node& n : g.nodes) {
    if (n.op != Op::kLinear && n.op != Op::kHeadLinear && n.op != Op::kMoeLinear) continue;
    RunShape run;
    if (n.op == Op::kMoeLinear) {  // cut experts run the same channels, a larger share of what they have
      const auto layer = static_cast<size_t>(n.layer);
      run.k_mean = work * before.layers[layer].d_ff / model.routing_shape().layers[layer].d_ff;
    }
    flops += cost(g, n, run).flops;
    const bool bias = n.op == Op::kLinear ? n.in[2] != kNone : n.op == Op::kMoeLinear && n.in[3] != kNone;
    if (bias) flops -= static_cast<double>(g.value(n.out[0]).shape.last()) * (n.op == Op::kMoeLinear ? run.k_mean : 1);
    if (n.op == Op::kLinear && std::get<ScaleAttrs>(n.attrs).scale != 1)
      flops -= static_cast<double>(g.value(n.out[0]).shape.last());
  }
  return flops;
}

}  // namespace

TEST_CASE("costs: bytes and FLOPs of random genomes are those of the files they become") {
  const TempFolder folder;
  for (const char* name : {"olmoe", "qwen2moe", "granitemoe", "gpt-oss", "deepseek2", "deepseek3"}) {
    CAPTURE(name);
    Case c(name);
    Rng rng(1, 2);
    for (int i = 0; i < (kSanitized ? 2 : 4); ++i) {
      CAPTURE(i);
      const RoutingTopology t = random_valid(c.model->routing_shape(), rng);
      Result<SpecialisePlan> plan = plan_specialise(*c.model, t);
      if (!plan.ok()) continue;  // all layers skipped
      const double k = 1.25, share = 0.5;
      const Evaluation e = cost_of(c, t, k, share);
      CHECK(std::llround(e.resident_bytes) == static_cast<long long>(plan->bytes_after));
      ThreadPool pool(1);
      const std::string path = folder / "small.gguf";
      REQUIRE(write_specialised(*plan, pool, path, {}).ok());
      const std::unique_ptr<Model> small = load_model(path);
      CHECK(e.active_flops == doctest::Approx(product_flops(*small, c.model->routing_shape(), k * share)).epsilon(1e-12));
    }
  }
}

TEST_CASE("costs: a token that uses every expert reads all but the rows of other tokens") {
  for (const char* name : {"olmoe", "gpt-oss", "deepseek2-merged", "granitemoe"}) {
    CAPTURE(name);
    Case c(name);
    const RoutingTopology t = full_topology(c.model->routing_shape());
    std::vector<LayerUse> uses = uses_of(t, 0, 1);
    for (size_t i = 0; i < uses.size(); ++i) uses[i].k_mean = uses[i].work_mean = t.layers[i].n_experts;
    Evaluation e;
    c.costs.fill(c.genome(t), uses, e);
    const TensorInfo* table = c.model->file().find("token_embd.weight");
    REQUIRE(table);
    const bool tied = !c.model->file().find("output.weight");
    const double rest = tied ? 0 : static_cast<double>(table->data.size()) * (1 - 1.0 / double(table->shape[0]));
    CHECK(e.bytes_per_token == doctest::Approx(e.resident_bytes - rest).epsilon(1e-12));
    CHECK(e.kept_share == 1);
  }
}

TEST_CASE("costs: what is kept, used and balanced is counted over kept experts and routed layers") {
  Case c("olmoe");
  RoutingTopology t = full_topology(c.model->routing_shape());
  REQUIRE(t.layers.size() == 2);
  const auto n = static_cast<size_t>(t.layers[0].n_experts);
  t.layers[0].allow.assign(n, 0);
  for (size_t e = 0; e < 4; ++e) t.layers[0].allow[e] = 1;
  t.layers[1].k_min = t.layers[1].k_max = 0;
  t.layers[0].k_min = t.layers[0].k_max = 2;
  std::vector<uint32_t> load(n, 0);
  load[0] = 30, load[1] = 10;
  std::vector<LayerUse> uses(2);
  uses[0] = {2, 1.5, load};
  Evaluation e;
  c.costs.fill(c.genome(t), uses, e);
  CHECK(e.kept_share == doctest::Approx(4.0 / (2.0 * double(n))));
  CHECK(e.k_mean == 1);
  CHECK(e.load_cv == doctest::Approx(std::sqrt((400.0 + 0 + 100 + 100) / 4) / 10));
  CHECK(e.diversity == doctest::Approx(-(0.75 * std::log(0.75) + 0.25 * std::log(0.25)) / std::log(4.0)));
  CHECK(e.expert_flops < e.active_flops);
  CHECK(c.costs.dense_flops() < e.active_flops - e.expert_flops);  // the router is left
  load.assign(n, 7);
  c.costs.fill(c.genome(t), uses, e);
  CHECK(e.load_cv == 0);
  CHECK(e.diversity == doctest::Approx(1));
}

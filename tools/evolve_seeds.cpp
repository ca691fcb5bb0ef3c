#include "tools/evolve_seeds.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "evolution/baselines.h"
#include "evolution/saliency.h"
#include "tools/common.h"

namespace moe::tools {
namespace {

constexpr double kShares[] = {0.75, 0.5};
// Of the ways to choose experts, those shown where no budget asks for all of them.
constexpr std::string_view kMain[] = {"frequency", "reap", "greedy-dp"};

std::string percent(double share) { return format_fixed(100 * share, 0) + " %"; }

// Pairs that are each other's most frequent company.
std::vector<std::vector<int32_t>> companions(const LayerCalibration& layer) {
  const int n = layer.n_experts;
  std::vector<int32_t> nearest(static_cast<size_t>(n), -1);
  if (layer.together.empty()) return {};
  for (int i = 0; i < n; ++i) {
    uint32_t most = 0;
    for (int j = 0; j < n; ++j) {
      if (i == j) continue;
      const uint32_t both = layer.together[pair_index(static_cast<size_t>(i), static_cast<size_t>(j))];
      if (both > most) most = both, nearest[static_cast<size_t>(i)] = j;
    }
  }
  std::vector<std::vector<int32_t>> pairs;
  for (int32_t i = 0; i < n; ++i) {
    const int32_t j = nearest[static_cast<size_t>(i)];
    if (j > i && nearest[static_cast<size_t>(j)] == i) pairs.push_back({i, j});
  }
  return pairs;
}

struct Totals {
  int64_t experts = 0, active = 0;
  int most_k = 0;
};
Totals totals_of(const RoutingShape& shape) {
  Totals t;
  for (const RoutingShape::Layer& l : shape.layers)
    t.experts += l.n_experts, t.active += l.k, t.most_k = std::max(t.most_k, l.k);
  return t;
}

// Numbers of `total` that baselines are shown at: both ends of the range, or the usual shares. All of it is the full model.
Result<std::vector<int64_t>> budgets(const std::string& name, const std::string& text, int64_t total) {
  std::vector<int64_t> all;
  if (text.empty()) {
    for (const double share : kShares) all.push_back(std::llround(share * static_cast<double>(total)));
  } else {
    MOE_ASSIGN(const IntRange range, budget_range(name, text, total));
    all = {range.high, range.low};
    if (range.high == range.low) all.pop_back();
  }
  std::erase_if(all, [&](int64_t n) { return n >= total || n < 1; });
  return all;
}

}  // namespace

Result<SearchSpace> make_space(const EvolveConfig& c, const RoutingShape& shape, const Calibration& calibration) {
  const Totals totals = totals_of(shape);
  Constraints constraints;
  if (!c.kept.empty()) {
    MOE_ASSIGN(constraints.kept, budget_range("constraints.kept", c.kept, totals.experts));
  }
  if (!c.active.empty()) {
    MOE_ASSIGN(constraints.active, budget_range("constraints.active", c.active, totals.active));
  }
  constraints.kept_low = c.kept_low;
  constraints.k_low = c.k_low, constraints.k_high = c.k_high;
  constraints.skip = c.skip;
  constraints.classes = c.classes;
  constraints.narrowest = c.widths ? 1 : kQuarters;
  constraints.temperature_low = c.temperature_low, constraints.temperature_high = c.temperature_high;
  constraints.bias_high = c.bias_high;
  Guides guides;
  MOE_ASSIGN(const SaliencyDef* saliency, find_saliency(c.saliency));
  guides.saliency = saliency_table(*saliency, calibration);
  for (const LayerCalibration& layer : calibration.layers) guides.groups.push_back(companions(layer));
  guides.bias_step = c.bias_step;
  return SearchSpace::create(shape, std::move(constraints), std::move(guides));
}

Result<std::vector<NamedGenome>> simple_points(const EvolveConfig& c, const SearchSpace& space, const Fitness& fitness,
                                               ThreadPool& threads, GenePool& pool) {
  const RoutingShape& shape = space.shape();
  const RoutingTopology full = full_topology(shape);
  const Totals totals = totals_of(shape);
  std::vector<NamedGenome> points;
  std::unordered_set<uint64_t> known;  // asked for members only
  const auto add = [&](std::string name, Genome genome) {
    if (known.insert(hash(genome)).second) points.push_back({std::move(name), std::move(genome)});
  };
  MOE_ASSIGN(Genome whole, genome_of(full, shape, pool));
  add("full", std::move(whole));
  for (int k = totals.most_k - 1; k >= 1; --k) {
    const RoutingTopology fewer = with_k(full, shape, k);
    if (!validate(fewer, shape).ok()) continue;
    MOE_ASSIGN(Genome genome, genome_of(fewer, shape, pool));
    add("k " + std::to_string(k), std::move(genome));
  }
  if (!c.baselines) return points;

  const BaselineInput input{&space, &fitness.calibration(), &fitness.gram(), fitness.layer_weights(), &threads, c.search.seed};
  MOE_ASSIGN(const std::vector<int64_t> kept, budgets("constraints.kept", c.kept, totals.experts));
  for (const int64_t n : kept)
    for (const BaselineDef& def : kept_baselines()) {
      if (c.kept.empty() && std::find(std::begin(kMain), std::end(kMain), def.name) == std::end(kMain)) continue;
      const double share = static_cast<double>(n) / static_cast<double>(totals.experts);
      if (Result<Genome> g = kept_baseline(def.name, input, n, pool); g.ok())
        add(def.name + (" " + percent(share)), *std::move(g));
    }
  if (!c.kept.empty() && c.active.empty()) return points;  // experts are what is looked for
  MOE_ASSIGN(const std::vector<int64_t> active, budgets("constraints.active", c.active, totals.active));
  for (const int64_t n : active)
    for (const BaselineDef& def : work_baselines()) {
      const double share = static_cast<double>(n) / static_cast<double>(totals.active);
      if (Result<Genome> g = work_baseline(def.name, input, share, pool); g.ok())
        add(def.name + (" " + percent(share) + " of work"), *std::move(g));
    }
  return points;
}

Result<std::vector<NamedGenome>> given_points(const EvolveConfig& c, const RoutingShape& shape, GenePool& pool) {
  std::vector<NamedGenome> points;
  for (const std::string& path : c.topologies) {
    MOE_ASSIGN(const RoutingTopology topology, load_topology(path));
    Result<Genome> genome = genome_of(topology, shape, pool);
    if (!genome.ok()) return genome.status().Annotate(path);
    points.push_back({path, *std::move(genome)});
  }
  return points;
}

}  // namespace moe::tools

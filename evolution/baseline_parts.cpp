#include "evolution/baseline_parts.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "evolution/masks.h"

namespace moe {
namespace {

// The first of `order` that `mask` lacks and that passes; −1: none.
int first_missing(const std::vector<int>& order, Bits mask, auto passes) {
  const auto found = std::find_if(order.begin(), order.end(), [&](int e) { return !has_bit(mask, e) && passes(e); });
  return found == order.end() ? -1 : *found;
}

// Where groups limit routing, one more expert can make fewer sure to be found: those that do not go first, and prefixes that
// cannot be avoided but are no valid mask lie below `least`.
LayerOrder lawful(const std::vector<int>& order, int layer, const SearchSpace& space) {
  const RoutingShape::Layer& shape = space.shape(layer);
  const int k = own_k(layer, space);
  const Bits protect = space.protect(layer);
  std::vector<uint64_t> mask(protect.begin(), protect.end());
  LayerOrder result;
  for (const int e : order)
    if (has_bit(mask, e)) result.ids.push_back(e);
  result.least = std::max(space.constraints().kept_low, static_cast<int>(result.ids.size()));
  while (result.ids.size() < order.size()) {
    const bool enough = guaranteed(mask, shape) >= k;
    const std::vector<uint64_t> useful = next_to_add(mask, shape);
    int e = first_missing(order, mask, [&](int i) {
      if (!enough) return has_bit(useful, i);
      std::vector<uint64_t> with = mask;
      set_bit(with, i, true);
      return guaranteed(with, shape) >= k;
    });
    if (e < 0) e = first_missing(order, mask, [](int) { return true; });
    set_bit(mask, e, true), result.ids.push_back(e);
    const auto n = static_cast<int>(result.ids.size());
    if (guaranteed(mask, shape) < k) result.least = std::max(result.least, n + 1);
  }
  result.least = std::max(result.least, k);
  return result;
}

}  // namespace

int own_k(int layer, const SearchSpace& space) {
  return std::clamp(space.shape(layer).k, space.k_low(layer), space.k_high(layer));
}

LayerGene full_gene(int layer, const SearchSpace& space) {
  LayerGene gene;
  gene.n_experts = space.shape(layer).n_experts;
  if (gene.n_experts == 0) return gene;
  gene.keep = everyone(gene.n_experts);
  gene.k_min = gene.k_max = own_k(layer, space);
  return gene;
}

LayerGene prefix_gene(const LayerOrder& order, int n, int layer, const SearchSpace& space) {
  LayerGene gene = full_gene(layer, space);
  std::fill(gene.keep.begin(), gene.keep.end(), 0);
  for (int i = 0; i < n; ++i) set_bit(gene.keep, order.ids[static_cast<size_t>(i)], true);
  return gene;
}

LayerOrder order_by(std::span<const double> value, int layer, const SearchSpace& space) {
  std::vector<int> order(value.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return value[static_cast<size_t>(a)] > value[static_cast<size_t>(b)]; });
  return lawful(order, layer, space);
}

LayerOrder random_order(int layer, const SearchSpace& space, Rng& rng) {
  std::vector<int> order(static_cast<size_t>(space.shape(layer).n_experts));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
  return lawful(order, layer, space);
}

Result<BaselineErrors> BaselineErrors::create(const BaselineInput& input) {
  if (input.gram == nullptr) return Status::InvalidArgument("this baseline needs a Gram cache");
  BaselineErrors e;
  if (input.threads == nullptr) e.own_threads_ = std::make_unique<ThreadPool>(1);
  ThreadPool& threads = input.threads == nullptr ? *e.own_threads_ : *input.threads;
  MOE_ASSIGN(e.pool_, GramPool::create(*input.gram, threads));
  e.classes_ = input.gram->classes(1, {});
  return e;
}

Status BaselineErrors::evaluate(std::span<const GramJob> jobs, std::vector<LayerError>& results) {
  results.resize(jobs.size());
  return pool_->evaluate(jobs, results);
}

Result<std::vector<LayerOrder>> greedy_orders(const BaselineInput& input, BaselineErrors& errors) {
  const SearchSpace& space = *input.space;
  struct State {
    LayerGene gene;
    std::vector<int> removed;  // the first to go first
    bool done = false;
  };
  std::vector<State> states(space.shape().layers.size());
  for (const int l : space.routed()) states[static_cast<size_t>(l)].gene = full_gene(l, space);

  for (;;) {  // one expert of every layer that still can lose one
    std::vector<LayerGene> genes;
    std::vector<GramJob> jobs;
    std::vector<int> candidates;
    for (const int l : space.routed()) {
      const State& s = states[static_cast<size_t>(l)];
      for (int e = 0; e < s.gene.n_experts && !s.done; ++e) {
        if (!has_bit(s.gene.row(0), e) || space.is_protected(l, e)) continue;
        LayerGene gene = s.gene;
        set_bit(gene.row(0), e, false);
        if (guaranteed(gene.row(0), space.shape(l)) < gene.k_max || gene.n_kept() < space.constraints().kept_low) continue;
        genes.push_back(std::move(gene)), candidates.push_back(e);
        jobs.push_back({l, nullptr, &errors.classes()});
      }
    }
    if (jobs.empty()) break;
    for (size_t i = 0; i < jobs.size(); ++i) jobs[i].gene = &genes[i];
    std::vector<LayerError> found;
    MOE_TRY(errors.evaluate(jobs, found));
    for (State& s : states) s.done = true;
    for (size_t first = 0, last; first < jobs.size(); first = last) {
      size_t best = first;
      for (last = first; last < jobs.size() && jobs[last].layer == jobs[first].layer; ++last)
        if (found[last].error < found[best].error) best = last;
      State& s = states[static_cast<size_t>(jobs[first].layer)];
      s.gene = genes[best], s.done = false;
      s.removed.push_back(candidates[best]);
    }
  }

  std::vector<LayerOrder> orders(states.size());
  for (const int l : space.routed()) {
    const State& s = states[static_cast<size_t>(l)];
    LayerOrder& order = orders[static_cast<size_t>(l)];
    for (int e = 0; e < s.gene.n_experts; ++e)
      if (has_bit(s.gene.row(0), e)) order.ids.push_back(e);
    order.least = static_cast<int>(order.ids.size());
    order.ids.insert(order.ids.end(), s.removed.rbegin(), s.removed.rend());
  }
  return orders;
}

Result<size_t> find_baseline(std::span<const BaselineDef> defs, std::string_view name) {
  std::string known;
  for (size_t i = 0; i < defs.size(); ++i) {
    if (name == defs[i].name) return i;
    known += (i ? ", " : "") + std::string(defs[i].name);
  }
  return Status::NotFound("baseline '" + std::string(name) + "'; known: " + known);
}

Status check_input(const BaselineInput& input, const BaselineDef& def) {
  MOE_CHECK(input.space && input.calibration);
  const size_t n = input.space->shape().layers.size();
  MOE_CHECK(input.calibration->layers.size() == n);
  MOE_CHECK(input.layer_weights.empty() || input.layer_weights.size() == n);
  if (def.needs_gram && input.gram == nullptr)
    return Status::InvalidArgument("baseline '" + std::string(def.name) + "' needs a Gram cache");
  return Status::Ok();
}

double weight_of(const BaselineInput& input, int layer) {
  return input.layer_weights.empty() ? 1 : input.layer_weights[static_cast<size_t>(layer)];
}

Genome genome_with(std::vector<LayerGene> genes, GenePool& pool) {
  Genome g;
  g.classes = pool.intern(ClassMap{});
  for (LayerGene& gene : genes) g.layers.push_back(pool.intern(std::move(gene)));
  return g;
}

std::vector<LayerGene> full_genes(const SearchSpace& space) {
  std::vector<LayerGene> genes;
  for (size_t l = 0; l < space.shape().layers.size(); ++l) genes.push_back(full_gene(static_cast<int>(l), space));
  return genes;
}

std::vector<int> uniform_levels(const std::vector<LevelRange>& ranges, int64_t total) {
  int64_t all = 0, seen = 0, given = 0;
  for (const LevelRange& r : ranges) all += r.high;
  std::vector<int> levels;
  for (const LevelRange& r : ranges) {
    const int64_t before = seen * total / all;
    seen += r.high;
    levels.push_back(std::clamp(static_cast<int>(seen * total / all - before), r.low, r.high));
    given += levels.back();
  }
  for (bool moved = true; given != total && moved;) {  // what clamping added or took, one a layer and round
    moved = false;
    for (size_t i = 0; i < levels.size() && given != total; ++i) {
      const int step = given < total ? 1 : -1;
      if (levels[i] + step < ranges[i].low || levels[i] + step > ranges[i].high) continue;
      levels[i] += step, given += step, moved = true;
    }
  }
  return levels;
}

}  // namespace moe

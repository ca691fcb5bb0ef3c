// Baselines that remove experts, and allocation over layers.
#include "evolution/baselines.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "evolution/baseline_parts.h"
#include "evolution/saliency.h"
#include "evolution/streams.h"

namespace moe {
namespace {

enum class Order : uint8_t { kSaliency, kRandom, kGreedy };
enum class Allocation : uint8_t { kUniform, kGlobal, kLeastError };

struct KeptRow {
  const char* saliency;  // of Order::kSaliency
  Order order;
  Allocation allocation;
};

constexpr BaselineDef kKeptDefs[] = {
    {"random", "any experts, the same share of every layer", "", false},
    {"frequency", "those used most, the same share of every layer", "as in NAEE, arXiv 2402.14800", false},
    {"gate", "those with the largest sum of routing weights", "soft counting: arXiv 2404.05089", false},
    {"ean", "those with the largest sum of output lengths", "expert activation norm, as in REAP", false},
    {"reap", "those that add most to the tokens that use them", "REAP, arXiv 2510.13999", false},
    {"man", "those with the longest outputs, however often used", "arXiv 2606.15716", false},
    {"frequency-global", "those used most of all layers together", "as in NAEE, arXiv 2402.14800", false},
    {"gate-global", "by sums of routing weights over all layers", "arXiv 2404.05089", false},
    {"ean-global", "by sums of output lengths over all layers", "as in REAP", false},
    {"reap-global", "by what experts add, over all layers", "REAP, arXiv 2510.13999", false},
    {"man-global", "by lengths of outputs, over all layers", "arXiv 2606.15716", false},
    {"greedy", "one by one, without the expert that raises the layer's error least", "NAEE made progressive, arXiv 2402.14800",
     true},
    {"dp", "by reap within layers, least sum of errors over layers", "EvoPress' dp_search, arXiv 2410.14649", true},
    {"greedy-dp", "greedy within layers, least sum of errors over layers", "both", true},
};
constexpr KeptRow kKeptRows[] = {
    {"", Order::kRandom, Allocation::kUniform},           {"frequency", Order::kSaliency, Allocation::kUniform},
    {"gate", Order::kSaliency, Allocation::kUniform},     {"ean", Order::kSaliency, Allocation::kUniform},
    {"reap", Order::kSaliency, Allocation::kUniform},     {"man", Order::kSaliency, Allocation::kUniform},
    {"frequency", Order::kSaliency, Allocation::kGlobal}, {"gate", Order::kSaliency, Allocation::kGlobal},
    {"ean", Order::kSaliency, Allocation::kGlobal},       {"reap", Order::kSaliency, Allocation::kGlobal},
    {"man", Order::kSaliency, Allocation::kGlobal},       {"", Order::kGreedy, Allocation::kUniform},
    {"reap", Order::kSaliency, Allocation::kLeastError},  {"", Order::kGreedy, Allocation::kLeastError},
};
static_assert(std::size(kKeptDefs) == std::size(kKeptRows));

// --- experts removed ---

struct Orders {
  std::vector<LayerOrder> layers;         // (n layers)
  std::vector<std::vector<float>> value;  // of Order::kSaliency: (n layers)(E)
};

Result<Orders> orders_of(const KeptRow& row, const BaselineInput& input, BaselineErrors* errors) {
  const SearchSpace& space = *input.space;
  Orders o;
  o.layers.resize(space.shape().layers.size());
  if (row.order == Order::kGreedy) {
    MOE_ASSIGN(o.layers, greedy_orders(input, *errors));
    return o;
  }
  if (row.order == Order::kSaliency) o.value = saliency_table(*find_saliency(row.saliency).value(), *input.calibration);
  for (const int l : space.routed()) {
    const auto i = static_cast<size_t>(l);
    if (row.order == Order::kRandom) {
      Rng rng = stream_of(input.seed, Purpose::kFirstPopulation, 0, static_cast<uint32_t>(l));
      o.layers[i] = random_order(l, space, rng);
    } else {
      o.layers[i] = order_by(std::vector<double>(o.value[i].begin(), o.value[i].end()), l, space);
    }
  }
  return o;
}

// The next best expert of all layers, from each layer's least on.
std::vector<int> global_levels(const Orders& orders, const std::vector<LevelRange>& ranges, const SearchSpace& space,
                               int64_t total) {
  std::vector<int> levels;
  levels.reserve(ranges.size());
  for (const LevelRange& r : ranges) levels.push_back(r.low);
  for (int64_t given = std::accumulate(levels.begin(), levels.end(), int64_t{0}); given < total; ++given) {
    size_t best = levels.size();
    float best_value = 0;
    for (size_t i = 0; i < levels.size(); ++i) {
      if (levels[i] == ranges[i].high) continue;
      const auto l = static_cast<size_t>(space.routed()[i]);
      const int e = orders.layers[l].ids[static_cast<size_t>(levels[i])];
      const float value = orders.value[l][static_cast<size_t>(e)];
      if (best == levels.size() || value > best_value) best = i, best_value = value;
    }
    ++levels[best];
  }
  return levels;
}

Result<std::vector<int>> least_error_prefixes(const Orders& orders, const std::vector<LevelRange>& ranges,
                                              const BaselineInput& input, BaselineErrors& errors, int64_t total) {
  const SearchSpace& space = *input.space;
  std::vector<LayerGene> genes;
  std::vector<GramJob> jobs;
  for (size_t i = 0; i < ranges.size(); ++i) {
    for (int n = ranges[i].low; n <= ranges[i].high; ++n) {
      const int l = space.routed()[i];
      genes.push_back(prefix_gene(orders.layers[static_cast<size_t>(l)], n, l, space));
      jobs.push_back({l, nullptr, &errors.classes()});
    }
  }
  for (size_t i = 0; i < jobs.size(); ++i) jobs[i].gene = &genes[i];
  std::vector<LayerError> found;
  MOE_TRY(errors.evaluate(jobs, found));
  std::vector<std::vector<double>> error(ranges.size());
  std::vector<std::vector<int>> cost(ranges.size());
  size_t at = 0;
  for (size_t i = 0; i < ranges.size(); ++i) {
    for (int n = ranges[i].low; n <= ranges[i].high; ++n) {
      error[i].push_back(weight_of(input, space.routed()[i]) * found[at++].length);
      cost[i].push_back(n);
    }
  }
  std::vector<int> levels = least_error_levels(error, cost, static_cast<int>(total), true);
  for (size_t i = 0; i < levels.size(); ++i) levels[i] += ranges[i].low;
  return levels;
}

}  // namespace

std::span<const BaselineDef> kept_baselines() { return kKeptDefs; }

std::vector<int> least_error_levels(const std::vector<std::vector<double>>& error, const std::vector<std::vector<int>>& cost,
                                    int budget, bool exactly) {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  const size_t n = error.size(), width = static_cast<size_t>(std::max(budget, 0)) + 1;
  std::vector<double> best(width, kNever), next(width);
  std::vector<std::vector<int>> chosen(n, std::vector<int>(width, -1));
  best[0] = 0;
  for (size_t i = 0; i < n; ++i) {
    std::fill(next.begin(), next.end(), kNever);
    for (size_t level = 0; level < error[i].size(); ++level) {
      const auto c = static_cast<size_t>(cost[i][level]);
      for (size_t b = c; b < width; ++b) {
        const double sum = best[b - c] + error[i][level];
        if (sum < next[b]) next[b] = sum, chosen[i][b] = static_cast<int>(level);
      }
    }
    best.swap(next);
  }
  size_t at = width - 1;
  if (!exactly) at = static_cast<size_t>(std::min_element(best.begin(), best.end()) - best.begin());
  if (best[at] == kNever) return {};
  std::vector<int> levels(n);
  for (size_t i = n; i-- > 0;) {
    levels[i] = chosen[i][at];
    at -= static_cast<size_t>(cost[i][static_cast<size_t>(levels[i])]);
  }
  return levels;
}

Result<Genome> kept_baseline(std::string_view name, const BaselineInput& input, int64_t kept, GenePool& pool) {
  size_t index = 0;
  MOE_ASSIGN(index, find_baseline(kKeptDefs, name));
  MOE_TRY(check_input(input, kKeptDefs[index]));
  const KeptRow& row = kKeptRows[index];
  const SearchSpace& space = *input.space;
  BaselineErrors errors;
  if (kKeptDefs[index].needs_gram) {
    MOE_ASSIGN(errors, BaselineErrors::create(input));
  }
  Orders orders;
  MOE_ASSIGN(orders, orders_of(row, input, &errors));

  std::vector<LevelRange> ranges;
  int64_t low = 0, high = 0;
  for (const int l : space.routed()) {
    const LayerOrder& order = orders.layers[static_cast<size_t>(l)];
    ranges.push_back({order.least, static_cast<int>(order.ids.size())});
    low += ranges.back().low, high += ranges.back().high;
  }
  if (kept < low || kept > high)
    return Status::InvalidArgument("baseline '" + std::string(name) + "': " + std::to_string(kept) +
                                   " experts kept over all layers, wanted " + std::to_string(low) + " to " +
                                   std::to_string(high));
  std::vector<int> levels;
  if (row.allocation == Allocation::kUniform) {
    levels = uniform_levels(ranges, kept);
  } else if (row.allocation == Allocation::kGlobal) {
    levels = global_levels(orders, ranges, space, kept);
  } else {
    MOE_ASSIGN(levels, least_error_prefixes(orders, ranges, input, errors, kept));
  }
  std::vector<LayerGene> genes = full_genes(space);
  for (size_t i = 0; i < levels.size(); ++i) {
    const int l = space.routed()[i];
    genes[static_cast<size_t>(l)] = prefix_gene(orders.layers[static_cast<size_t>(l)], levels[i], l, space);
  }
  return genome_with(std::move(genes), pool);
}

}  // namespace moe

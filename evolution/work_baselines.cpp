// Baselines that save work: fewer experts a token, narrower ones, a threshold.
#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "evolution/baseline_parts.h"
#include "evolution/streams.h"

namespace moe {
namespace {

constexpr BaselineDef kWorkDefs[] = {
    {"uniform-k", "every layer uses as many experts as the next, or one more", "", false},
    {"random-k", "any numbers of experts a token", "", false},
    {"width", "every expert runs the same share of its channels, or a quarter more",
     "nested widths: MatFormer, arXiv 2310.07707", false},
    {"threshold", "experts with less than a share of the best one's weight are left out, the same share in all layers",
     "skipping of NAEE, arXiv 2402.14800", true},
    {"k-dp", "numbers of experts a token with the least sum of errors over layers", "LExI, arXiv 2509.02753, on errors", true},
    {"k-width", "one number of experts a token and one width for all layers, of those the one with the least sum of errors", "",
     true},
    {"k-width-dp", "numbers of experts a token and widths of layers with the least sum of errors",
     "LExI's numbers and MatFormer's widths, on errors", true},
};

// In units of `unit` channels: what a layer's experts cost at full width.
struct WorkUnits {
  std::vector<int> layer;  // (routed) of one expert
  int64_t full = 0;        // of the full model

  explicit WorkUnits(const SearchSpace& space) {
    int unit = 0;
    for (const int l : space.routed()) unit = std::gcd(unit, space.shape(l).d_ff);
    for (const int l : space.routed()) {
      layer.push_back(space.shape(l).d_ff / unit);
      full += int64_t{layer.back()} * space.shape(l).k;
    }
  }
  int64_t of(const std::vector<int>& k) const {
    int64_t sum = 0;
    for (size_t i = 0; i < k.size(); ++i) sum += int64_t{layer[i]} * k[i];
    return sum;
  }
};

std::vector<LevelRange> k_ranges(const SearchSpace& space) {
  std::vector<LevelRange> ranges;
  for (const int l : space.routed()) ranges.push_back({space.may_skip(l) ? 0 : space.k_low(l), own_k(l, space)});
  return ranges;
}

Genome genome_with_k(const std::vector<int>& k, const SearchSpace& space, GenePool& pool) {
  std::vector<LayerGene> genes = full_genes(space);
  for (size_t i = 0; i < k.size(); ++i) {
    LayerGene& gene = genes[static_cast<size_t>(space.routed()[i])];
    gene.k_min = gene.k_max = k[i];
  }
  return genome_with(std::move(genes), pool);
}

// A layer is skipped or uses k_low experts at least; what lies between becomes the lower of the two.
void drop_gaps(std::vector<int>& k, const SearchSpace& space) {
  for (size_t i = 0; i < k.size(); ++i)
    if (k[i] < space.k_low(space.routed()[i])) k[i] = 0;
}

Result<Genome> uniform_k(const BaselineInput& input, int64_t budget, const WorkUnits& units, GenePool& pool) {
  const std::vector<LevelRange> ranges = k_ranges(*input.space);
  int64_t low = 0, total = 0;
  for (const LevelRange& r : ranges) low += r.low, total += r.high;
  for (; total >= low; --total) {
    std::vector<int> k = uniform_levels(ranges, total);
    drop_gaps(k, *input.space);
    if (units.of(k) <= budget) return genome_with_k(k, *input.space, pool);
  }
  return Status::InvalidArgument("no number of experts a token is so cheap");
}

Result<Genome> random_k(const BaselineInput& input, int64_t budget, const WorkUnits& units, GenePool& pool) {
  const SearchSpace& space = *input.space;
  const std::vector<LevelRange> ranges = k_ranges(space);
  std::vector<int> k;
  for (const LevelRange& r : ranges) k.push_back(r.low);
  if (units.of(k) > budget) return Status::InvalidArgument("no number of experts a token is so cheap");
  Rng rng = stream_of(input.seed, Purpose::kFirstPopulation, 0);
  for (;;) {
    std::vector<size_t> open;
    std::vector<int> next(k.size());
    const int64_t spent = units.of(k);
    for (size_t i = 0; i < k.size(); ++i) {
      next[i] = std::max(k[i] + 1, space.k_low(space.routed()[i]));
      if (next[i] <= ranges[i].high && spent + int64_t{units.layer[i]} * (next[i] - k[i]) <= budget) open.push_back(i);
    }
    if (open.empty()) return genome_with_k(k, space, pool);
    const size_t i = open[rng.below(open.size())];
    k[i] = next[i];
  }
}

// What a layer may do: so many experts a token, all of one width.
struct WorkLevel {
  int k, quarters;
  int cost;      // in units of `unit` channels
  double error;  // with the layer's weight
};

// Of each routed layer, by cost; `unit` is what all costs are multiples of.
Result<std::vector<std::vector<WorkLevel>>> work_levels(const BaselineInput& input, bool widths, int& unit) {
  const SearchSpace& space = *input.space;
  const std::vector<LevelRange> ranges = k_ranges(space);
  BaselineErrors errors;
  MOE_ASSIGN(errors, BaselineErrors::create(input));
  const int narrowest = widths && input.gram->has_widths() ? space.constraints().narrowest : kQuarters;
  std::vector<std::vector<WorkLevel>> levels(ranges.size());
  std::vector<LayerGene> genes;
  std::vector<GramJob> jobs;
  unit = 0;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const int l = space.routed()[i];
    if (ranges[i].low == 0) levels[i].push_back({0, kQuarters, 0, weight_of(input, l)});
    for (int quarters = narrowest; quarters <= kQuarters; ++quarters) {
      if (space.width_setting(l, quarters) != quarters) continue;
      const int channels = channels_of(quarters, space.shape(l));
      unit = std::gcd(unit, channels);
      for (int n = std::max(ranges[i].low, space.k_low(l)); n <= ranges[i].high; ++n) {
        LayerGene& gene = genes.emplace_back(full_gene(l, space));
        gene.k_min = gene.k_max = n;
        for (int e = 0; quarters < kQuarters && e < gene.n_experts; ++e) gene.set_quarters(e, quarters);
        jobs.push_back({l, nullptr, &errors.classes()});
        levels[i].push_back({n, quarters, n * channels, 0});
      }
    }
  }
  for (size_t i = 0; i < jobs.size(); ++i) jobs[i].gene = &genes[i];
  std::vector<LayerError> found;
  MOE_TRY(errors.evaluate(jobs, found));
  size_t at = 0;
  for (size_t i = 0; i < levels.size(); ++i) {
    for (WorkLevel& level : levels[i]) {
      level.cost /= std::max(unit, 1);
      if (level.k > 0) level.error = weight_of(input, space.routed()[i]) * found[at++].length;
    }
    std::stable_sort(levels[i].begin(), levels[i].end(), [](const auto& a, const auto& b) { return a.cost < b.cost; });
  }
  return levels;
}

Genome genome_at(const std::vector<WorkLevel>& levels, const SearchSpace& space, GenePool& pool) {
  std::vector<LayerGene> genes = full_genes(space);
  for (size_t i = 0; i < levels.size(); ++i) {
    LayerGene& gene = genes[static_cast<size_t>(space.routed()[i])];
    gene.k_min = gene.k_max = levels[i].k;
    for (int e = 0; levels[i].quarters < kQuarters && e < gene.n_experts; ++e) gene.set_quarters(e, levels[i].quarters);
  }
  return genome_with(std::move(genes), pool);
}

// Channels that a token may run in all layers together, in units.
int budget_in(int unit, double work, const SearchSpace& space) {
  double full = 0;
  for (const int l : space.routed()) full += static_cast<double>(space.shape(l).k) * space.shape(l).d_ff;
  return static_cast<int>(work * full / std::max(unit, 1) + 1e-9);
}

Result<Genome> least_error_work(const BaselineInput& input, double work, bool widths, GenePool& pool) {
  int unit = 0;
  std::vector<std::vector<WorkLevel>> levels;
  MOE_ASSIGN(levels, work_levels(input, widths, unit));
  std::vector<std::vector<double>> error(levels.size());
  std::vector<std::vector<int>> cost(levels.size());
  for (size_t i = 0; i < levels.size(); ++i)
    for (const WorkLevel& level : levels[i]) error[i].push_back(level.error), cost[i].push_back(level.cost);
  const std::vector<int> best = least_error_levels(error, cost, budget_in(unit, work, *input.space), false);
  if (best.empty() && !levels.empty()) return Status::InvalidArgument("no number of experts a token is so cheap");
  std::vector<WorkLevel> chosen;
  for (size_t i = 0; i < best.size(); ++i) chosen.push_back(levels[i][static_cast<size_t>(best[i])]);
  return genome_at(chosen, *input.space, pool);
}

Result<Genome> uniform_work(const BaselineInput& input, double work, GenePool& pool) {
  int unit = 0;
  std::vector<std::vector<WorkLevel>> levels;
  MOE_ASSIGN(levels, work_levels(input, true, unit));
  const int budget = budget_in(unit, work, *input.space);
  std::vector<WorkLevel> best;
  double least = std::numeric_limits<double>::infinity();
  for (const WorkLevel& wanted : levels.empty() ? std::vector<WorkLevel>{} : levels[0]) {
    std::vector<WorkLevel> chosen;
    double error = 0;
    int64_t cost = 0;
    for (const auto& of_layer : levels) {
      const auto at = std::find_if(of_layer.begin(), of_layer.end(),
                                   [&](const auto& l) { return l.k == wanted.k && l.quarters == wanted.quarters; });
      if (at == of_layer.end()) break;
      chosen.push_back(*at), error += at->error, cost += at->cost;
    }
    if (chosen.size() == levels.size() && cost <= budget && error < least) least = error, best = std::move(chosen);
  }
  if (best.size() != levels.size()) return Status::InvalidArgument("no number of experts a token and width is so cheap");
  return genome_at(best, *input.space, pool);
}

// Experts go from one width to the next in turn, all layers' first, then all layers' second …, while the calibration's
// tokens, as the full model routes them, stay within the work.
Result<Genome> uniform_width(const BaselineInput& input, double work, GenePool& pool) {
  const SearchSpace& space = *input.space;
  std::vector<LayerGene> genes = full_genes(space);
  double full = 0, spent = 0;
  const auto use = [&](int l, int e) {
    const LayerCalibration& c = input.calibration->layers[static_cast<size_t>(l)];
    return static_cast<double>(c.total(c.use, e));
  };
  int most_experts = 0;
  for (const int l : space.routed()) {
    LayerGene& gene = genes[static_cast<size_t>(l)];
    most_experts = std::max(most_experts, gene.n_experts);
    for (int e = 0; e < gene.n_experts; ++e) {
      gene.set_quarters(e, space.width_setting(l, space.constraints().narrowest));
      full += use(l, e) * space.shape(l).d_ff;
      spent += use(l, e) * channels_of(gene.quarters(e), space.shape(l));
    }
  }
  if (spent > work * full) return Status::InvalidArgument("no width is so cheap");
  for (int quarters = space.constraints().narrowest + 1; quarters <= kQuarters; ++quarters) {
    for (int e = 0; e < most_experts; ++e) {
      for (const int l : space.routed()) {
        LayerGene& gene = genes[static_cast<size_t>(l)];
        if (e >= gene.n_experts) continue;
        const int wider = space.width_setting(l, quarters);
        const double more = use(l, e) * (channels_of(wider, space.shape(l)) - channels_of(gene.quarters(e), space.shape(l)));
        if (spent + more > work * full) return genome_with(std::move(genes), pool);
        gene.set_quarters(e, wider), spent += more;
      }
    }
  }
  return genome_with(std::move(genes), pool);
}

Result<Genome> uniform_threshold(const BaselineInput& input, double work, const WorkUnits& units, GenePool& pool) {
  const SearchSpace& space = *input.space;
  BaselineErrors errors;
  MOE_ASSIGN(errors, BaselineErrors::create(input));
  std::vector<LayerGene> genes = full_genes(space);
  std::vector<GramJob> jobs;
  for (const int l : space.routed()) jobs.push_back({l, &genes[static_cast<size_t>(l)], &errors.classes()});
  const auto set = [&](float threshold) {
    for (const int l : space.routed()) {
      LayerGene& gene = genes[static_cast<size_t>(l)];
      gene.k_min = threshold > 0 ? 1 : gene.k_max;
      gene.threshold = threshold;
    }
  };
  const auto share = [&](float threshold) -> Result<double> {
    set(threshold);
    std::vector<LayerError> found;
    MOE_TRY(errors.evaluate(jobs, found));
    double spent = 0;
    for (size_t i = 0; i < found.size(); ++i) spent += found[i].k_mean * units.layer[i];
    return spent / static_cast<double>(units.full);
  };
  float low = 0, high = 1;
  double spent = 0;
  MOE_ASSIGN(spent, share(low));
  if (spent <= work) return genome_with(std::move(genes), pool);
  MOE_ASSIGN(spent, share(high));
  if (spent > work) return Status::InvalidArgument("no threshold is so cheap: one expert a token is left");
  for (int i = 0; i < 20; ++i) {
    const float middle = (low + high) / 2;
    MOE_ASSIGN(spent, share(middle));
    (spent > work ? low : high) = middle;
  }
  set(high);
  return genome_with(std::move(genes), pool);
}

}  // namespace

std::span<const BaselineDef> work_baselines() { return kWorkDefs; }

Result<Genome> work_baseline(std::string_view name, const BaselineInput& input, double work, GenePool& pool) {
  size_t index = 0;
  MOE_ASSIGN(index, find_baseline(kWorkDefs, name));
  MOE_TRY(check_input(input, kWorkDefs[index]));
  if (!(work > 0 && work <= 1))
    return Status::InvalidArgument("baseline '" + std::string(name) + "': work " + std::to_string(work) + ", wanted 0 to 1");
  const WorkUnits units(*input.space);
  const auto budget = static_cast<int64_t>(work * static_cast<double>(units.full) + 1e-9);
  Result<Genome> made = name == "uniform-k"    ? uniform_k(input, budget, units, pool)
                        : name == "random-k"   ? random_k(input, budget, units, pool)
                        : name == "k-dp"       ? least_error_work(input, work, false, pool)
                        : name == "k-width"    ? uniform_work(input, work, pool)
                        : name == "k-width-dp" ? least_error_work(input, work, true, pool)
                        : name == "width"      ? uniform_width(input, work, pool)
                                               : uniform_threshold(input, work, units, pool);
  if (made.ok()) return made;
  return made.status().Annotate("baseline '" + std::string(name) + "' at " + std::to_string(work) + " of experts' work");
}

}  // namespace moe

// What baselines are made of: orders of a layer's experts, the first to stay first, and the masks of their prefixes; levels of
// layers that meet a budget; errors of single layers.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/rng.h"
#include "evolution/baselines.h"

namespace moe {

// ids: a permutation of experts whose first n are a valid mask for every n from `least` on.
struct LayerOrder {
  std::vector<int> ids;
  int least = 0;
};

// Protected experts first, then what makes k experts sure to be found where groups limit routing, then by `value`, larger
// first, ties by number.
LayerOrder order_by(std::span<const double> value, int layer, const SearchSpace& space);
LayerOrder random_order(int layer, const SearchSpace& space, Rng& rng);

// The model's own k, within the bounds of the space.
int own_k(int layer, const SearchSpace& space);
// The layer as the model has it, but for k.
LayerGene full_gene(int layer, const SearchSpace& space);
LayerGene prefix_gene(const LayerOrder& order, int n, int layer, const SearchSpace& space);

std::vector<LayerGene> full_genes(const SearchSpace& space);       // (n layers)
Genome genome_with(std::vector<LayerGene> genes, GenePool& pool);  // one class of tokens

struct LevelRange {
  int low = 0, high = 0;
};
// One level a range with the given sum, each the same share of `high`, spread evenly; clamped to their ranges.
std::vector<int> uniform_levels(const std::vector<LevelRange>& ranges, int64_t total);

double weight_of(const BaselineInput& input, int layer);  // a_l
Result<size_t> find_baseline(std::span<const BaselineDef> defs, std::string_view name);
Status check_input(const BaselineInput& input, const BaselineDef& def);

// Errors of single layers for a baseline, over threads.
class BaselineErrors {
 public:
  BaselineErrors() = default;  // to be assigned to
  static Result<BaselineErrors> create(const BaselineInput& input);
  Status evaluate(std::span<const GramJob> jobs, std::vector<LayerError>& results);
  const SampleClasses& classes() const { return classes_; }

 private:
  std::unique_ptr<ThreadPool> own_threads_;
  std::unique_ptr<GramPool> pool_;
  SampleClasses classes_;
};

// NAEE's search made progressive (arXiv 2402.14800 tries all subsets): (n layers). E² / 2 errors a layer.
Result<std::vector<LayerOrder>> greedy_orders(const BaselineInput& input, BaselineErrors& errors);

}  // namespace moe

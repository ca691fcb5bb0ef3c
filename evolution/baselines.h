// Routings that need no search: what the field does at a given budget. Opponents that a search has to beat, and where its first
// population begins.
//
// What is removed: experts, a given number kept in all. A baseline is an order of each layer's experts and an allocation:
//
//   order       by saliency (saliency.h), random, or greedy: from all experts, again and again without the one whose loss
//               raises the layer's error (gram_cache.h) least
//   allocation  uniform: the same share of every layer
//               global: the best of all layers by their saliency, as it is
//               least error: Σ_l a_l · length_l(n_l), LayerError::length, the least there is, by dynamic programming over
//               layers
//
// What is saved: work, a share of the FLOPs of routed experts, by fewer experts a token, narrower ones or a threshold.
//
// Not among them: merged experts, and methods that train.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "evolution/calibration.h"
#include "evolution/constraints.h"
#include "evolution/gram_evaluator.h"

namespace moe {

struct BaselineInput {
  const SearchSpace* space = nullptr;          // shape, bounds of layers, protected experts; its budgets do not count
  const Calibration* calibration = nullptr;    // of the same model
  const GramCache* gram = nullptr;             // null: without the baselines that need errors of layers
  std::span<const double> layer_weights = {};  // (n layers) a_l; empty: all 1
  ThreadPool* threads = nullptr;               // null: one thread
  uint64_t seed = 1;                           // of what is random
};

struct BaselineDef {
  const char* name;
  const char* help;
  const char* source;
  bool needs_gram;
};

// --- Experts removed; layers keep the model's own k. ---

std::span<const BaselineDef> kept_baselines();
// Exactly `kept` experts over all layers. kNotFound lists the names there are, kInvalidArgument for a number that layers
// cannot reach, for a Gram cache that is missing.
Result<Genome> kept_baseline(std::string_view name, const BaselineInput& input, int64_t kept, GenePool& pool);

// --- Work saved; all experts stay. ---

std::span<const BaselineDef> work_baselines();
// At most `work` of the FLOPs that the full model's routed experts take for a token, and as close below it as layers (for a
// threshold: bisection on the sample) allow. 0 < work ≤ 1. kInvalidArgument where the space's bounds leave nothing so cheap.
Result<Genome> work_baseline(std::string_view name, const BaselineInput& input, double work, GenePool& pool);

// Errors Σ a_l · error_l(level_l) of layers, cost units of each level, and the levels that make the sum the least within the
// budget: allocation over layers as EvoPress does it (arXiv 2410.14649, its dp_search). cost and error (n layers)(levels);
// `exactly`: the budget is spent to the unit. Ties go to earlier levels of later layers. Empty: nothing fits.
std::vector<int> least_error_levels(const std::vector<std::vector<double>>& error, const std::vector<std::vector<int>>& cost,
                                    int budget, bool exactly);

}  // namespace moe

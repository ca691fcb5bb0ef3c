// Where a search begins, and what its front is shown beside: routings that need no search.
#pragma once

#include <string>
#include <vector>

#include "core/threads.h"
#include "evolution/fitness.h"
#include "evolution/genome.h"
#include "tools/evolve_config.h"

namespace moe::tools {

struct NamedGenome {
  std::string name;  // "reap 50 %"
  Genome genome;
};

// The space of the settings for this model. Operators prefer experts by the settings' saliency and meet those together that
// are used together.
Result<SearchSpace> make_space(const EvolveConfig& config, const RoutingShape& shape, const Calibration& calibration);

// The full model first; then fewer experts a token in all layers; then, with the baselines asked for, those of baselines.h at
// the budgets of the settings or, without any, at 75 % and 50 %.
Result<std::vector<NamedGenome>> simple_points(const EvolveConfig& config, const SearchSpace& space, const Fitness& fitness,
                                               ThreadPool& threads, GenePool& pool);
// The topologies that the settings name.
Result<std::vector<NamedGenome>> given_points(const EvolveConfig& config, const RoutingShape& shape, GenePool& pool);

}  // namespace moe::tools

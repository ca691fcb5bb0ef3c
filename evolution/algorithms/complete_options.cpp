#include <algorithm>
#include <string>

#include "evolution/algorithms/makers.h"

namespace moe {
namespace {

constexpr uint32_t kMostCandidates = 1u << 24;  // what a stream of random numbers can tell apart (streams.h)

}  // namespace

Result<AlgorithmOptions> complete_options(const char* name, AlgorithmOptions given, const AlgorithmOptions& own,
                                          int least_objectives, int most_objectives) {
  const auto refuse = [&](const std::string& what, const std::string& found) {
    return Status::InvalidArgument(std::string(name) + ": wanted " + what + ", found " + found);
  };
  if (given.n_objectives < least_objectives || given.n_objectives > most_objectives)
    return refuse(least_objectives == most_objectives
                      ? std::to_string(least_objectives) + " objective (several: a weighted sum of them, or nsga2)"
                      : std::to_string(least_objectives) + " to " + std::to_string(most_objectives) + " objectives",
                  std::to_string(given.n_objectives));
  if (given.population == 0) given.population = own.population;
  if (given.elites == 0) given.elites = own.elites;
  if (given.children == 0) given.children = own.children;
  if (given.children == 0) given.children = given.population - std::min(given.elites, given.population - 1);
  if (given.selection.empty()) given.selection = own.selection;
  if (given.crossover_rate < 0) given.crossover_rate = own.crossover_rate;
  if (given.population > kMostCandidates || given.children > kMostCandidates)
    return refuse("at most " + std::to_string(kMostCandidates) + " slots and children",
                  std::to_string(given.population) + " and " + std::to_string(given.children));
  if (!(given.crossover_rate <= 1)) return refuse("a crossover rate of 0 to 1", std::to_string(given.crossover_rate));
  return given;
}

}  // namespace moe

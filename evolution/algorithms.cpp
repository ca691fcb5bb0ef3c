// The table of algorithms. One more: a file in algorithms/, its declaration in algorithms/makers.h, its row here.
#include <string>

#include "evolution/algorithm.h"
#include "evolution/algorithms/makers.h"

namespace moe {
namespace {

constexpr AlgorithmRow kAlgorithms[] = {
    {"nsga2", "fronts and crowding, 1 to 3 objectives; population 100, crossover 0.9 (Deb et al., 2002)", make_nsga2},
    {"nsga3",
     "fronts and reference directions, 3 objectives and more; population 100 or, with divisions given, one slot a direction; "
     "crossover 1 (Deb and Jain, 2014)",
     make_nsga3},
    {"genetic", "generations under one objective, the best stay; population 100, elites 1, crossover 0.7, selection tournament",
     make_genetic},
    {"level-switch",
     "(mu + lambda) by mutation under one objective; population 1, children 32 (EvoPress, Sieberling et al., 2025)",
     make_level_switch},
};

}  // namespace

std::span<const AlgorithmRow> algorithms() { return kAlgorithms; }

Result<std::unique_ptr<Algorithm>> make_algorithm(std::string_view name, const AlgorithmOptions& options) {
  std::string known;
  for (const AlgorithmRow& row : kAlgorithms) {
    if (name == row.name) return row.make(options);
    known += std::string(known.empty() ? "" : ", ") + row.name;
  }
  return Status::NotFound("algorithm: wanted one of " + known + ", found '" + std::string(name) + "'");
}

}  // namespace moe

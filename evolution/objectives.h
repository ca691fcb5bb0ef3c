// What a search minimises: a table of objectives, and limits that a candidate should keep.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "evolution/evaluation.h"
#include "evolution/score.h"
#include "evolution/weighted_sum.h"

namespace moe {

enum class Tier : uint8_t { kScreen, kForward, kChoices };  // what an objective needs: screen(), score(), accuracy of choices

struct ObjectiveDef {
  const char* name;
  const char* unit;
  const char* help;
  bool maximise;
  Tier tier;
  double (*value)(const Evaluation&);  // in `unit`
};
std::span<const ObjectiveDef> all_objectives();
Result<const ObjectiveDef*> find_objective(std::string_view name);  // kNotFound lists the names there are

// value ≤ limit, or ≥ where the objective is maximised.
struct ObjectiveLimit {
  const ObjectiveDef* objective = nullptr;
  double limit = 0;
};

struct ObjectiveSet {
  std::vector<const ObjectiveDef*> objectives;  // 1 to kMostObjectives
  std::vector<ObjectiveLimit> limits;
  std::optional<WeightedSum> sum;  // of all objectives: the only one then

  int n_values() const { return sum ? 1 : static_cast<int>(objectives.size()); }  // of a score
  // Maximised values with their sign changed; the violation is the sum over limits of the relative excess. kDropped for dropped
  // evaluations; kInternal when a value that counts was not measured.
  Result<Score> score(const Evaluation& evaluation) const;
};

}  // namespace moe

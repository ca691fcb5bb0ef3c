#include "evolution/weighted_sum.h"

#include <cmath>
#include <string>

namespace moe {

Result<WeightedSum> WeightedSum::make(std::span<const double> weights, std::span<const double> baseline) {
  const auto refuse = [](const std::string& what) { return Status::InvalidArgument("weighted sum: " + what); };
  if (weights.size() != baseline.size() || weights.empty() || weights.size() > kMostObjectives)
    return refuse("wanted a weight and a baseline for each of 1 to " + std::to_string(kMostObjectives) + " objectives, found " +
                  std::to_string(weights.size()) + " and " + std::to_string(baseline.size()));
  WeightedSum sum;
  bool any = false;
  for (size_t m = 0; m < weights.size(); ++m) {
    const std::string objective = "objective " + std::to_string(m) + ": ";
    if (!(weights[m] >= 0) || !std::isfinite(weights[m]))
      return refuse(objective + "wanted a weight of 0 or more, found " + std::to_string(weights[m]));
    if (!std::isfinite(baseline[m]) || (baseline[m] == 0 && weights[m] > 0))
      return refuse(objective + "wanted a baseline that can be divided by, found " + std::to_string(baseline[m]));
    any |= weights[m] > 0;
    sum.weights_[m] = weights[m];
    sum.baseline_[m] = std::fabs(baseline[m]);
  }
  if (!any) return refuse("wanted a weight above 0, found none");
  sum.n_objectives_ = static_cast<int>(weights.size());
  return sum;
}

Score WeightedSum::operator()(const Score& score) const {
  Score sum;
  sum.violation = score.violation;
  for (int m = 0; m < n_objectives_; ++m)
    if (weights_[m] > 0) sum.values[0] += weights_[m] * (score.values[m] / baseline_[m]);
  return sum;
}

}  // namespace moe

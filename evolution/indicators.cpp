#include "evolution/indicators.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/check.h"

namespace moe {
namespace {

double euclidean(const Objectives& a, const Objectives& b, int n_objectives) {
  double sum = 0;
  for (int m = 0; m < n_objectives; ++m) sum += (a[m] - b[m]) * (a[m] - b[m]);
  return std::sqrt(sum);
}

double excess(const Objectives& truth, const Objectives& found, int n_objectives) {
  double sum = 0;
  for (int m = 0; m < n_objectives; ++m) {
    const double worse = std::max(found[m] - truth[m], 0.0);
    sum += worse * worse;
  }
  return std::sqrt(sum);
}

template <class Distance>
double mean_nearest(std::span<const Objectives> from, std::span<const Objectives> to, int n_objectives, Distance distance) {
  MOE_CHECK(!from.empty() && !to.empty());
  double sum = 0;
  for (const Objectives& a : from) {
    double nearest = std::numeric_limits<double>::infinity();
    for (const Objectives& b : to) nearest = std::min(nearest, distance(a, b, n_objectives));
    sum += nearest;
  }
  return sum / static_cast<double>(from.size());
}

}  // namespace

double inverted_generational_distance(std::span<const Objectives> found, std::span<const Objectives> truth, int n_objectives) {
  return mean_nearest(truth, found, n_objectives, euclidean);
}

double inverted_generational_distance_plus(std::span<const Objectives> found, std::span<const Objectives> truth,
                                           int n_objectives) {
  return mean_nearest(truth, found, n_objectives, excess);
}

double generational_distance(std::span<const Objectives> found, std::span<const Objectives> truth, int n_objectives) {
  return mean_nearest(found, truth, n_objectives, euclidean);
}

}  // namespace moe

#include "evolution/reference_points.h"

#include <algorithm>
#include <string>

#include "core/check.h"

namespace moe {
namespace {

constexpr uint64_t kMost = 1'000'000;

// C(divisions + m − 1, m − 1), or kMost + 1 where it is more than kMost.
uint64_t count_points(int n_objectives, int divisions) {
  uint64_t count = 1;
  for (int i = 1; i < n_objectives; ++i) {
    count = count * static_cast<uint64_t>(divisions + i) / static_cast<uint64_t>(i);
    if (count > kMost) return kMost + 1;
  }
  return count;
}

void add_points(int n_objectives, int divisions, int objective, int left, Objectives& point, std::vector<Objectives>& points) {
  if (objective == n_objectives - 1) {
    point[objective] = static_cast<double>(left) / divisions;
    points.push_back(point);
    return;
  }
  for (int i = 0; i <= left; ++i) {
    point[objective] = static_cast<double>(i) / divisions;
    add_points(n_objectives, divisions, objective + 1, left - i, point, points);
  }
}

// The greatest number of divisions whose points fit, 0 where not even the corners do.
int divisions_within(int n_objectives, size_t room) {
  int divisions = 0;
  while (count_points(n_objectives, divisions + 1) <= std::min<uint64_t>(room, kMost)) ++divisions;
  return divisions;
}

std::vector<Objectives> points_of(int n_objectives, int divisions) {
  std::vector<Objectives> points;
  Objectives point{};
  if (divisions > 0) add_points(n_objectives, divisions, 0, divisions, point, points);
  return points;
}

}  // namespace

Result<std::vector<Objectives>> das_dennis_points(int n_objectives, int divisions) {
  if (n_objectives < 2 || n_objectives > kMostObjectives)
    return Status::InvalidArgument("reference points: wanted 2 to " + std::to_string(kMostObjectives) + " objectives, found " +
                                   std::to_string(n_objectives));
  if (divisions < 1 || divisions > static_cast<int>(kMost))
    return Status::InvalidArgument("reference points: wanted 1 to a million divisions, found " + std::to_string(divisions));
  if (count_points(n_objectives, divisions) > kMost)
    return Status::InvalidArgument("reference points: " + std::to_string(divisions) + " divisions of " +
                                   std::to_string(n_objectives) + " objectives are more than a million points");
  return points_of(n_objectives, divisions);
}

std::vector<Objectives> reference_points_for(int n_objectives, size_t room) {
  MOE_CHECK(n_objectives >= 2 && n_objectives <= kMostObjectives);
  const int divisions = divisions_within(n_objectives, room);
  std::vector<Objectives> points = points_of(n_objectives, divisions);
  if (divisions >= n_objectives) return points;
  const int inner = std::min(divisions, divisions_within(n_objectives, room - points.size()));
  for (Objectives point : points_of(n_objectives, inner)) {
    for (int m = 0; m < n_objectives; ++m) point[m] = (point[m] + 1.0 / n_objectives) / 2;
    points.push_back(point);
  }
  return points;
}

}  // namespace moe

// Exact hypervolume. Two objectives: a sweep. Three: slabs along the third, the area below the staircase of the first two kept
// up to date (Fonseca, Paquete, López-Ibáñez, 2006). More: WFG's sum of exclusive volumes, one objective fewer a level:
//
//   points from worst to best in the last objective; p's exclusive volume is then what p dominates and none of the later
//   ones does. Limited to p's box the later ones all reach p's last value, so that
//   exclusive(p) = (reference_m − p_m) · (box of p in m − 1 objectives − hypervolume of the limited points in m − 1)
#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <vector>

#include "core/check.h"
#include "evolution/indicators.h"

namespace moe {
namespace {

using Points = std::vector<Objectives>;

double volume_1(const Points& points, const Objectives& reference) {
  double best = reference[0];
  for (const Objectives& p : points) best = std::min(best, p[0]);
  return reference[0] - best;
}

double volume_2(Points& points, const Objectives& reference) {
  std::sort(points.begin(), points.end(),
            [](const Objectives& a, const Objectives& b) { return a[0] != b[0] ? a[0] < b[0] : a[1] < b[1]; });
  double area = 0, floor = reference[1];
  for (const Objectives& p : points) {
    if (p[1] >= floor) continue;
    area += (reference[0] - p[0]) * (floor - p[1]);
    floor = p[1];
  }
  return area;
}

// The area that points of the first two objectives dominate, one point after another.
class Staircase {
 public:
  explicit Staircase(const Objectives& reference) {
    steps_.emplace(-std::numeric_limits<double>::infinity(), reference[1]);
    steps_.emplace(reference[0], -std::numeric_limits<double>::infinity());
  }
  double area() const { return area_; }

  void add(double x, double y) {
    auto after = steps_.upper_bound(x);
    double floor = std::prev(after)->second;  // the lowest y of those no further right than x
    if (floor <= y) return;
    auto step = std::prev(after);
    if (step->first == x) after = steps_.erase(step);
    double from = x;
    while (after->second >= y) {  // steps that the new one hides: the strip up to each gains from its floor down to y
      area_ += (after->first - from) * (floor - y);
      from = after->first;
      floor = after->second;
      after = steps_.erase(after);
    }
    area_ += (after->first - from) * (floor - y);
    steps_.emplace_hint(after, x, y);
  }

 private:
  std::map<double, double> steps_;  // x → y, falling; from each x on, y is dominated
  double area_ = 0;
};

double volume_3(Points& points, const Objectives& reference) {
  std::stable_sort(points.begin(), points.end(), [](const Objectives& a, const Objectives& b) { return a[2] < b[2]; });
  Staircase stairs(reference);
  double volume = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    stairs.add(points[i][0], points[i][1]);
    const double next = i + 1 < points.size() ? points[i + 1][2] : reference[2];
    volume += stairs.area() * (next - points[i][2]);
  }
  return volume;
}

bool covers(const Objectives& a, const Objectives& b, int n_objectives) {
  for (int m = 0; m < n_objectives; ++m)
    if (a[m] > b[m]) return false;
  return true;
}

// Those that no other covers, one of each. Order is kept.
void keep_front(Points& points, int n_objectives) {
  size_t kept = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    const Objectives p = points[i];
    const auto end = points.begin() + static_cast<ptrdiff_t>(kept);
    if (std::any_of(points.begin(), end, [&](const Objectives& q) { return covers(q, p, n_objectives); })) continue;
    const auto rest = std::remove_if(points.begin(), end, [&](const Objectives& q) { return covers(p, q, n_objectives); });
    kept = static_cast<size_t>(rest - points.begin());
    points[kept++] = p;
  }
  points.resize(kept);
}

double volume_of(Points& points, const Objectives& reference, int n_objectives) {
  if (n_objectives == 1) return volume_1(points, reference);
  if (n_objectives == 2) return volume_2(points, reference);
  if (n_objectives == 3) return volume_3(points, reference);
  const int last = n_objectives - 1;
  keep_front(points, n_objectives);
  std::stable_sort(points.begin(), points.end(), [&](const Objectives& a, const Objectives& b) { return a[last] > b[last]; });
  double volume = 0;
  Points limited;
  for (size_t i = 0; i < points.size(); ++i) {
    double box = 1;
    for (int m = 0; m < last; ++m) box *= reference[m] - points[i][m];
    limited.assign(points.begin() + static_cast<ptrdiff_t>(i) + 1, points.end());
    for (Objectives& q : limited)
      for (int m = 0; m < last; ++m) q[m] = std::max(q[m], points[i][m]);
    volume += (reference[last] - points[i][last]) * (box - volume_of(limited, reference, last));
  }
  return volume;
}

}  // namespace

double hypervolume(std::span<const Objectives> points, const Objectives& reference, int n_objectives) {
  MOE_CHECK(n_objectives >= 1 && n_objectives <= kMostObjectives);
  Points inside;
  for (const Objectives& p : points) {
    bool better = true;
    for (int m = 0; m < n_objectives; ++m) better &= p[m] < reference[m];
    if (better) inside.push_back(p);
  }
  return inside.empty() ? 0 : volume_of(inside, reference, n_objectives);
}

}  // namespace moe

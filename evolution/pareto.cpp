#include "evolution/pareto.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/check.h"
#include "evolution/rank_points.h"

namespace moe {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Lexicographic order of the objectives, as <=> would give it: below 0, 0 or above.
int compare_values(const Score& a, const Score& b, int n_objectives) {
  for (int m = 0; m < n_objectives; ++m)
    if (a.values[m] != b.values[m]) return a.values[m] < b.values[m] ? -1 : 1;
  return 0;
}

// Those given up early are all alike.
int compare_scores(const Score& a, const Score& b, int n_objectives) {
  if (a.violation != b.violation) return a.violation < b.violation ? -1 : 1;
  return a.dropped() ? 0 : compare_values(a, b, n_objectives);
}

// What mostly decides lies beside the index: the sort then seldom reaches into the scores.
std::vector<uint32_t> sorted_by_score(std::span<const Score> scores, int n_objectives) {
  struct Key {
    double violation, first;
    uint32_t index;
  };
  std::vector<Key> keys(scores.size());
  for (uint32_t i = 0; i < keys.size(); ++i) keys[i] = {scores[i].violation, scores[i].dropped() ? 0 : scores[i].values[0], i};
  std::sort(keys.begin(), keys.end(), [&](const Key& a, const Key& b) {
    if (a.violation != b.violation) return a.violation < b.violation;
    if (a.first != b.first) return a.first < b.first;
    const int way = compare_scores(scores[a.index], scores[b.index], n_objectives);
    return way != 0 ? way < 0 : a.index < b.index;
  });
  std::vector<uint32_t> order(keys.size());
  std::transform(keys.begin(), keys.end(), order.begin(), [](const Key& key) { return key.index; });
  return order;
}

// Fronts from the rank of each, by counting: stable, so that indices ascend inside of a front.
Fronts fronts_of(std::vector<uint32_t> rank, uint32_t n_fronts) {
  Fronts fronts;
  fronts.begin.assign(n_fronts + 1, 0);
  for (const uint32_t r : rank) ++fronts.begin[r + 1];
  for (uint32_t f = 0; f < n_fronts; ++f) fronts.begin[f + 1] += fronts.begin[f];
  fronts.order.resize(rank.size());
  std::vector<uint32_t> next(fronts.begin.begin(), fronts.begin.end() - 1);
  for (uint32_t i = 0; i < rank.size(); ++i) fronts.order[next[rank[i]]++] = i;
  fronts.rank = std::move(rank);
  return fronts;
}

}  // namespace

bool dominates(const Score& a, const Score& b, int n_objectives) {
  if (a.violation != b.violation) return a.violation < b.violation;
  if (a.dropped()) return false;
  bool better = false;
  for (int m = 0; m < n_objectives; ++m) {
    if (a.values[m] > b.values[m]) return false;
    better |= a.values[m] < b.values[m];
  }
  return better;
}

// Violation decides first, so each of its values has fronts of its own, behind those of smaller ones: a search far from
// feasible costs a sort, not a comparison of everybody with everybody.
Fronts sort_fronts(std::span<const Score> scores, int n_objectives) {
  MOE_CHECK(n_objectives >= 1 && n_objectives <= kMostObjectives);
  const std::vector<uint32_t> order = sorted_by_score(scores, n_objectives);
  std::vector<uint32_t> rank(scores.size());
  std::vector<uint32_t> unique;  // positions in `order` of the different points of one violation
  std::vector<double> columns;   // (n_objectives, unique.size())
  uint32_t n_fronts = 0;
  for (size_t begin = 0, end; begin < order.size(); begin = end) {
    const double violation = scores[order[begin]].violation;
    unique.clear();
    for (end = begin; end < order.size() && scores[order[end]].violation == violation; ++end)
      if (end == begin || compare_scores(scores[order[end - 1]], scores[order[end]], n_objectives) != 0)
        unique.push_back(static_cast<uint32_t>(end));
    const size_t n = unique.size();
    columns.resize(n * n_objectives);
    for (int m = 0; m < n_objectives; ++m)
      for (size_t i = 0; i < n; ++i) columns[m * n + i] = scores[order[unique[i]]].values[m];
    const std::vector<uint32_t> ranks = rank_points(columns, n, n_objectives);
    uint32_t deepest = 0;
    for (size_t i = 0; i < n; ++i) {
      const size_t after = i + 1 < n ? unique[i + 1] : end;
      for (size_t at = unique[i]; at < after; ++at) rank[order[at]] = n_fronts + ranks[i];
      deepest = std::max(deepest, ranks[i]);
    }
    n_fronts += deepest + 1;
  }
  return fronts_of(std::move(rank), n_fronts);
}

std::vector<double> crowding_distances(std::span<const Score> scores, std::span<const uint32_t> front, int n_objectives) {
  std::vector<double> distance(front.size(), 0);
  std::vector<uint32_t> members(front.size());  // positions in `front`, without copies
  std::iota(members.begin(), members.end(), 0u);
  std::sort(members.begin(), members.end(), [&](uint32_t a, uint32_t b) {
    const int way = compare_scores(scores[front[a]], scores[front[b]], n_objectives);
    return way != 0 ? way < 0 : a < b;
  });
  const auto copies = std::unique(members.begin(), members.end(), [&](uint32_t a, uint32_t b) {
    return compare_scores(scores[front[a]], scores[front[b]], n_objectives) == 0;
  });
  members.erase(copies, members.end());
  if (members.size() <= 2) {
    for (const uint32_t i : members) distance[i] = kInfinity;
    return distance;
  }
  for (int m = 0; m < n_objectives; ++m) {
    const auto value = [&](size_t i) { return scores[front[members[i]]].values[m]; };
    std::stable_sort(members.begin(), members.end(),
                     [&](uint32_t a, uint32_t b) { return scores[front[a]].values[m] < scores[front[b]].values[m]; });
    const double extent = value(members.size() - 1) - value(0);
    if (!(extent > 0)) continue;
    distance[members.front()] = distance[members.back()] = kInfinity;
    for (size_t i = 1; i + 1 < members.size(); ++i) distance[members[i]] += (value(i + 1) - value(i - 1)) / extent;
  }
  return distance;
}

}  // namespace moe

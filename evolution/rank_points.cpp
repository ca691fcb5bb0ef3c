// Non-dominated sorting by divide and conquer: Jensen, "Reducing the run-time complexity of multiobjective EAs", 2003, in the
// form that is right for equal values (Fortin, Grenier, Parizeau, GECCO 2013; Buzdalov and Shalyto, PPSN 2014).
//
// Rejected: comparing everybody with everybody, n²/2 comparisons on one front (4,096 points: 8.4 million) and n² bits when the
// results are kept; ENS with binary search, which is as slow on one front.
//
// A point's rank is 1 + the greatest rank among those who dominate it. Two calls share the work, over index sets in
// lexicographic order and the first m objectives:
//
//   within(S, m)      ranks in S follow from each other            S = low ∪ equal ∪ high, by the median of objective m
//                       within(low, m)  low → equal  within(equal, m−1)  low ∪ equal → high  within(high, m)
//   across(L, H, m)   ranks in H follow from L; nobody in H dominates one of L, and who of L is nowhere worse in the first m
//                       objectives dominates (it is better in a later one). Split in the same way until L lies below H
//                       in objective m, which then need not be looked at any more.
//
// With two objectives left a sweep in order of the first finds the greatest rank with a small enough second.
#include "evolution/rank_points.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace moe {
namespace {

using Indices = std::span<const uint32_t>;

// Greatest value among the first `count` places; places only grow. 0 where nothing was put.
class PrefixMaximum {
 public:
  void clear(size_t n) { tree_.assign(n + 1, 0); }
  void put(size_t place, uint32_t value) {
    for (size_t i = place + 1; i < tree_.size(); i += i & (0 - i)) tree_[i] = std::max(tree_[i], value);
  }
  uint32_t of(size_t count) const {
    uint32_t greatest = 0;
    for (size_t i = count; i > 0; i -= i & (0 - i)) greatest = std::max(greatest, tree_[i]);
    return greatest;
  }

 private:
  std::vector<uint32_t> tree_;
};

// One objective cut in three. Order is kept.
struct Parts {
  std::vector<uint32_t> low, equal, high;
};

std::vector<uint32_t> merged(Indices a, Indices b) {
  std::vector<uint32_t> both(a.size() + b.size());
  std::merge(a.begin(), a.end(), b.begin(), b.end(), both.begin());
  return both;
}

class Ranker {
 public:
  Ranker(std::span<const double> columns, Indices all, int n_objectives)
      : columns_(columns), n_(all.size()), rank_(all.size(), 0) {
    within(all, n_objectives);
  }
  std::vector<uint32_t> take() && { return std::move(rank_); }

 private:
  static constexpr size_t kFew = 24;  // below, comparing all pairs is faster than dividing

  double value(uint32_t i, int m) const { return columns_[static_cast<size_t>(m) * n_ + i]; }

  // a is nowhere worse than b in the first m objectives.
  bool covers(uint32_t a, uint32_t b, int m) const {
    for (int k = 0; k < m; ++k)
      if (value(a, k) > value(b, k)) return false;
    return true;
  }
  void follow(uint32_t below, uint32_t above, int m) {
    if (rank_[below] <= rank_[above] && covers(above, below, m)) rank_[below] = rank_[above] + 1;
  }

  double median(Indices a, Indices b, int m) {
    keys_.clear();
    for (const uint32_t i : a) keys_.push_back(value(i, m));
    for (const uint32_t i : b) keys_.push_back(value(i, m));
    std::nth_element(keys_.begin(), keys_.begin() + static_cast<ptrdiff_t>(keys_.size() / 2), keys_.end());
    return keys_[keys_.size() / 2];
  }
  Parts split(Indices set, int m, double pivot) const {
    Parts parts;
    for (const uint32_t i : set) {
      const double v = value(i, m);
      (v < pivot ? parts.low : v > pivot ? parts.high : parts.equal).push_back(i);
    }
    return parts;
  }
  std::pair<double, double> extent(Indices set, int m) const {
    double least = value(set[0], m), most = least;
    for (const uint32_t i : set) {
      least = std::min(least, value(i, m));
      most = std::max(most, value(i, m));
    }
    return {least, most};
  }

  void within(Indices set, int m) {
    if (set.size() <= kFew) {
      for (size_t j = 1; j < set.size(); ++j)
        for (size_t i = 0; i < j; ++i) follow(set[j], set[i], m);
      return;
    }
    if (m == 2) return sweep_within(set);
    const auto [least, most] = extent(set, m - 1);
    if (least == most) return within(set, m - 1);
    const Parts parts = split(set, m - 1, median(set, {}, m - 1));
    within(parts.low, m);
    across(parts.low, parts.equal, m - 1);
    within(parts.equal, m - 1);
    across(merged(parts.low, parts.equal), parts.high, m - 1);
    within(parts.high, m);
  }

  void across(Indices above, Indices below, int m) {
    if (above.empty() || below.empty()) return;
    if (std::min(above.size(), below.size()) <= 3 || above.size() * below.size() <= kFew * kFew) {
      for (const uint32_t b : below)
        for (const uint32_t a : above) follow(b, a, m);
      return;
    }
    if (m == 2) return sweep_across(above, below);
    const auto [least_above, most_above] = extent(above, m - 1);
    const auto [least_below, most_below] = extent(below, m - 1);
    if (least_above > most_below) return;
    if (most_above <= least_below) return across(above, below, m - 1);
    const double pivot = median(above, below, m - 1);
    const Parts a = split(above, m - 1, pivot), b = split(below, m - 1, pivot);
    across(a.low, b.low, m);
    across(a.low, b.equal, m - 1);
    across(a.equal, b.equal, m - 1);
    across(merged(a.low, a.equal), b.high, m - 1);
    across(a.high, b.high, m);
  }

  // Places of the prefix maxima: the different second values of `set`.
  void places_of(Indices set) {
    keys_.clear();
    for (const uint32_t i : set) keys_.push_back(value(i, 1));
    std::sort(keys_.begin(), keys_.end());
    keys_.erase(std::unique(keys_.begin(), keys_.end()), keys_.end());
    maxima_.clear(keys_.size());
  }
  // How many places hold a second value no greater than i's.
  size_t reach(uint32_t i) const {
    return static_cast<size_t>(std::upper_bound(keys_.begin(), keys_.end(), value(i, 1)) - keys_.begin());
  }

  // Who comes earlier in lexicographic order is no worse in the first objective. Maxima hold rank + 1.
  void sweep_within(Indices set) {
    places_of(set);
    for (const uint32_t i : set) {
      const size_t places = reach(i);
      rank_[i] = std::max(rank_[i], maxima_.of(places));
      maxima_.put(places - 1, rank_[i] + 1);
    }
  }
  void sweep_across(Indices above, Indices below) {
    places_of(above);
    size_t next = 0;
    for (const uint32_t i : below) {
      for (; next < above.size() && value(above[next], 0) <= value(i, 0); ++next)
        maxima_.put(reach(above[next]) - 1, rank_[above[next]] + 1);
      rank_[i] = std::max(rank_[i], maxima_.of(reach(i)));
    }
  }

  std::span<const double> columns_;
  size_t n_;
  std::vector<uint32_t> rank_;
  std::vector<double> keys_;
  PrefixMaximum maxima_;
};

// With two objectives a front's newest point is its lowest in the second, and fronts are ordered by it: a point belongs to the
// first front whose newest is higher.
std::vector<uint32_t> rank_in_plane(std::span<const double> second) {
  std::vector<uint32_t> rank;
  std::vector<double> lowest;
  for (const double y : second) {
    const auto front = std::upper_bound(lowest.begin(), lowest.end(), y);
    rank.push_back(static_cast<uint32_t>(front - lowest.begin()));
    if (front == lowest.end())
      lowest.push_back(y);
    else
      *front = y;
  }
  return rank;
}

}  // namespace

std::vector<uint32_t> rank_points(std::span<const double> columns, size_t n, int n_objectives) {
  if (n_objectives == 2) return rank_in_plane(columns.subspan(n));
  std::vector<uint32_t> all(n);
  std::iota(all.begin(), all.end(), 0u);
  if (n_objectives == 1) return all;  // a chain
  return Ranker(columns, all, n_objectives).take();
}

}  // namespace moe

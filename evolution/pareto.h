// Who beats whom when there is more than one objective: dominance, fronts, and how crowded a place on a front is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "evolution/score.h"

namespace moe {

// a beats b: it violates less; or violates as much, is nowhere worse and somewhere better (Deb et al., 2002, section VI).
bool dominates(const Score& a, const Score& b, int n_objectives);

struct Fronts {
  std::vector<uint32_t> rank;   // (n) the front that a score is in; 0 is dominated by nobody
  std::vector<uint32_t> order;  // (n) front after front, ascending inside of one
  std::vector<uint32_t> begin;  // (size() + 1) where each front begins in `order`

  size_t size() const { return begin.size() - 1; }
  std::span<const uint32_t> operator[](size_t front) const {
    return std::span(order).subspan(begin[front], begin[front + 1] - begin[front]);
  }
};

// Rank r: dominated by somebody of rank r − 1 and by nobody of a higher one. Equal scores share a rank. No value may be NaN.
// O(n log n) time for up to 2 objectives, O(n log^(m−1) n) for m, whatever the scores; O(n m) memory.
Fronts sort_fronts(std::span<const Score> scores, int n_objectives);

// Of the members of one front: the sum over objectives of the gap between a member's neighbours as a share of the front's
// extent; infinity at the ends of an objective (Deb et al., 2002, section III-B). Of equal members the first gets the
// distance and the rest 0: copies add nothing to a front.
std::vector<double> crowding_distances(std::span<const Score> scores, std::span<const uint32_t> front, int n_objectives);

}  // namespace moe

// How good a front is, as one number. Points are minimised; only the first n_objectives of each count.
#pragma once

#include <span>

#include "evolution/score.h"

namespace moe {

// Volume that the points dominate below `reference`, exact. A point that is not better than it in every objective adds
// nothing. 2 and 3 objectives: O(n log n). More: WFG (While, Bradstreet, Barone, 2012), exponential in the worst case;
// 100 points with 5 objectives take 0.5 ms, 50 with 8 take 4 ms.
double hypervolume(std::span<const Objectives> points, const Objectives& reference, int n_objectives);

// Mean distance from each point of the true front to the nearest one found: 0 is perfect. Not empty, either of them.
double inverted_generational_distance(std::span<const Objectives> found, std::span<const Objectives> truth, int n_objectives);

// The same, where only being worse counts as distance: a better front never gets a worse number (Ishibuchi et al., 2015).
double inverted_generational_distance_plus(std::span<const Objectives> found, std::span<const Objectives> truth,
                                           int n_objectives);

// Mean distance from each point found to the nearest one of the true front.
double generational_distance(std::span<const Objectives> found, std::span<const Objectives> truth, int n_objectives);

}  // namespace moe

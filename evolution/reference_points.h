// Directions spread evenly over the objectives: what NSGA-III keeps its population close to.
#pragma once

#include <vector>

#include "core/status.h"
#include "evolution/score.h"

namespace moe {

// All points with coordinates i/divisions that sum to 1 (Das and Dennis, 1998): C(divisions + m − 1, m − 1) of them, in
// lexicographic order. Refused beyond a million.
Result<std::vector<Objectives>> das_dennis_points(int n_objectives, int divisions);

// The most of them that `room` holds. With fewer divisions than objectives all lie on the rim; a second, smaller layer then
// fills the middle (Deb and Jain, 2014, section VI) as far as there is room.
std::vector<Objectives> reference_points_for(int n_objectives, size_t room);

}  // namespace moe

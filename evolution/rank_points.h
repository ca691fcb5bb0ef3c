// The inner part of sort_fronts(): ranks by dominance of points that are all different and already in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moe {

// columns: (n_objectives, n), the points in lexicographic order, no two equal. Returns the front of each point, 0 the best.
std::vector<uint32_t> rank_points(std::span<const double> columns, size_t n, int n_objectives);

}  // namespace moe

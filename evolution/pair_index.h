// Symmetric matrices as their lower halves with the diagonal, row by row: n (n + 1) / 2 numbers.
#pragma once

#include <cstddef>

namespace moe {

// Of {i, j}, in either order.
constexpr size_t pair_index(size_t i, size_t j) { return i < j ? j * (j + 1) / 2 + i : i * (i + 1) / 2 + j; }

}  // namespace moe

// Memory for the temporaries of a graph: lifetimes → offsets in one arena.
//
// Nodes are grouped in phases: inside a phase nodes may run at the same time (no barrier between them), so a value lives from
// the phase of its writer to the phase of its last reader, and two values share bytes only if those intervals do not meet. A
// backend that runs node after node gives every node its own phase.
#pragma once

#include "tensor/graph.h"

namespace moe {

struct MemoryPlan {
  std::vector<size_t>
      offset;  // (n values) bytes into the arena; kNoOffset for weights, inputs, states and temps without a writer
  size_t arena_bytes = 0;
  static constexpr size_t kNoOffset = ~size_t{0};
};

// Offsets are multiples of this; so are gaps between values.
inline constexpr size_t kPlanAlignment = 64;

// phase: (n nodes), ascending. Rows of symbolic extents are counted as max_tokens and max_outputs.
MemoryPlan plan_memory(const Graph&, std::span<const int> phase, int64_t max_tokens, int64_t max_outputs);

// Bytes of a temp at these extents.
size_t value_bytes(const Value&, int64_t n_tokens, int64_t n_outputs);

}  // namespace moe

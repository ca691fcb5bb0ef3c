// Pattern → fused op, where the backend runs the fused op. Patterns are rows of a table in fuse.cpp.
#pragma once

#include <functional>

#include "tensor/graph.h"

namespace moe {

// Architectures build simple ops only; this makes linear with residual, linear_glu, moe_gate_up and moe_down of them wherever
// an intermediate value has exactly one reader and is no output. `supports` is the backend's answer for the fused node.
Graph fuse(const Graph&, const std::function<bool(const Graph&, const Node&)>& supports);

}  // namespace moe

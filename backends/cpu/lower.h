// Rewrites a graph for kernels that multiply int8 activations: each value that such a product reads is rounded once, by a
// quantize_act node, whoever reads it afterwards.
#pragma once

#include "backends/cpu/kernels.h"
#include "tensor/graph.h"

namespace moe::cpu {

// Value ids of the graph given stay valid; new values come behind them.
Graph lower_to_int8(const Graph&, const KernelTable&);

}  // namespace moe::cpu

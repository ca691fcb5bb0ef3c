// Rewrites a graph for kernels that multiply rounded activations, int8 blocks or bfloat16 as suits a product's weights: a value
// that such products read is rounded once to each type, by a quantize_act node, whoever reads it afterwards. So are
// queries that meet a cache of less than float32, where attention multiplies bfloat16, and what reverse passes of products with
// bfloat16 weights multiply.
#pragma once

#include "backends/cpu/kernels.h"
#include "tensor/graph.h"

namespace moe::cpu {

// Value ids of the graph given stay valid; new values come behind them.
Graph round_activations(const Graph&, const KernelTable&);

}  // namespace moe::cpu

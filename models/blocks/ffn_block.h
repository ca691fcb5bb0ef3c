// Feed-forward sub-layers as graph fragments: dense, and a mixture of experts with its router.
#pragma once

#include "models/graph_builder.h"

namespace moe {

// down(unit(gate x) · up x) of the current layer, tensors ffn_{gate,up,down}<kind>: kind is "" or "_shexp". Without residual.
ValueId dense_ffn(GraphBuilder& b, ValueId x, const std::string& kind, int64_t d_ff, GluAttrs glu = {});

struct MoeBlock {
  Gating gating = Gating::kSoftmax;
  bool normalize = false;
  float scale = 1;
  GluAttrs glu;
  bool biased = false;          // router and experts carry biases
  bool selection_bias = false;  // exp_probs_b, when the file has it
  int64_t group_top = 2;
};

// Routed experts of the current layer: router, route over the topology's tables, expert products. x (T, d_model) is normed;
// returns residual + residual_scale · mixture, or the residual in a layer that a topology left no experts.
ValueId moe_ffn(GraphBuilder& b, ValueId x, ValueId residual, const MoeBlock& block, float residual_scale = 1);

}  // namespace moe

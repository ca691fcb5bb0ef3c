// Rotary position angles as the model's metadata asks for them.
#pragma once

#include "models/graph_builder.h"

namespace moe {

// One rope_table for all layers. `yarn_mscale` is the magnitude numerator of YaRN configurations with a log multiplier
// (mscale of DeepSeek's config; transformers' modeling_rope_utils.py, _compute_yarn_parameters).
ValueId rope_table(GraphBuilder& b, float yarn_mscale = 1);

// 1 + 0.1 · mscale · ln(factor): YaRN's attention magnitude (arXiv 2309.00071 §3.4); 1 for factors up to 1.
float yarn_magnitude(float factor, float mscale);

}  // namespace moe

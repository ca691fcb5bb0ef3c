#include "models/blocks/rope_block.h"

#include <cmath>

namespace moe {

float yarn_magnitude(float factor, float mscale) { return factor <= 1 ? 1.0f : 0.1f * mscale * std::log(factor) + 1.0f; }

ValueId rope_table(GraphBuilder& b, float yarn_mscale) {
  const ModelConfig& c = b.config();
  RopeTableAttrs a;
  a.dims = c.rope_dims;
  a.base = c.rope_base;
  a.original_ctx = c.rope_original_ctx;
  a.attn_factor = c.rope_attn_factor;
  const bool scaled = c.rope_factor > 0 && c.rope_scaling != "none";
  if (scaled) a.freq_scale = 1 / c.rope_factor;
  if (scaled && c.rope_scaling == "yarn") {
    a.ext_factor = 1;
    a.attn_factor *= c.rope_log_multiplier != 0 ? yarn_magnitude(c.rope_factor, yarn_mscale) /
                                                      yarn_magnitude(c.rope_factor, 10 * c.rope_log_multiplier)
                                                : yarn_magnitude(c.rope_factor, 1);
  }
  const ValueId factors = b.vector("rope_freqs.weight", c.rope_dims / 2, Role::kNorm, Presence::kOptional);
  return b.op(Op::kRopeTable, {b.model().positions, factors}, a);
}

}  // namespace moe

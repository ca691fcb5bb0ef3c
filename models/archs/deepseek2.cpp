// DeepSeek-V2, V2-Lite (arXiv 2405.04434) and V3 (arXiv 2412.19437): latent attention, leading dense layers, shared experts;
// V2 routes by softmax, V3 by sigmoid with a selection bias and group-limited top-k.
#include <cmath>
#include <limits>

#include "models/archs/arch_rules.h"
#include "models/archs/archs.h"
#include "models/blocks/attention_block.h"
#include "models/blocks/ffn_block.h"
#include "models/blocks/rope_block.h"

namespace moe {
namespace {

// All shared experts are one dense block.
Status shared_width(ModelConfig& c, const std::string& source) {
  const int64_t width = int64_t{c.n_expert_shared} * c.d_ff_expert;
  if (width > std::numeric_limits<int>::max())
    return Status::Corrupt(source + ": key 'deepseek2.expert_shared_count': wanted a width that fits 31 bits, found " +
                           std::to_string(c.n_expert_shared) + " experts of " + std::to_string(c.d_ff_expert));
  c.d_ff_shared = static_cast<int>(width);
  return Status::Ok();
}

Status configure(ModelConfig& c, const std::string& source) {
  MOE_TRY(require_expert_width(c, source));
  if (c.kv_rank < 1) return Status::NotFound(source + ": key 'deepseek2.attention.kv_lora_rank' is missing or 0");
  // Files for the absorbed form state the head sizes under the _mla keys, older ones under the plain keys.
  if (c.head_dim_mla == 0) c.head_dim_mla = c.head_dim, c.v_dim_mla = c.v_dim;
  if (c.rope_dims >= c.head_dim_mla || c.v_dim_mla < 1)
    return Status::Corrupt(source + ": deepseek2 head sizes: wanted rope.dimension_count below key length " +
                           std::to_string(c.head_dim_mla) + ", found " + std::to_string(c.rope_dims));
  if (c.n_dense_lead > 0 && c.d_ff == 0) return Status::NotFound(source + ": key 'deepseek2.feed_forward_length' is missing");
  if (c.d_ff_shared == 0) MOE_TRY(shared_width(c, source));
  if (c.gating == 0) c.gating = 1;
  if (c.gating == 3)
    return Status::Unsupported(source + ": key 'deepseek2.expert_gating_func': wanted 1 (softmax) or 2 (sigmoid), found 3");
  return Status::Ok();
}

void build(GraphBuilder& b) {
  const ModelConfig& c = b.config();
  // DeepSeek's config has mscale = mscale_all_dim, so the rotation keeps its magnitude and the scores take mscale².
  const float mscale_all = 10 * c.rope_log_multiplier;
  const ValueId rope = rope_table(b, mscale_all != 0 ? mscale_all : 1);
  const bool yarn = c.rope_scaling == "yarn" && c.rope_factor > 0;
  const float mscale = yarn ? yarn_magnitude(c.rope_factor, mscale_all) * c.rope_attn_factor : 1;
  const float scale = mscale * mscale / std::sqrt(static_cast<float>(c.head_dim_mla));
  MoeBlock experts;
  experts.gating = c.gating == 2 ? Gating::kSigmoid : Gating::kSoftmax;
  experts.normalize = c.weights_normalized;
  experts.scale = weights_scale(c);
  experts.selection_bias = true;
  experts.group_top = c.gating == 2 ? 2 : 1;  // V3 adds a group's two best, V2 takes the best
  build_decoder(b, [&](ValueId x, int layer) {
    x = b.add(
        latent_attention_block(b, b.rms_norm(x, b.vector("attn_norm.weight", c.d_model, Role::kNorm), c.d_model), rope, scale),
        x);
    const ValueId h = b.rms_norm(x, b.vector("ffn_norm.weight", c.d_model, Role::kNorm), c.d_model);
    if (layer < c.n_dense_lead) return b.add(dense_ffn(b, h, "", c.d_ff), x);
    if (c.d_ff_shared > 0) x = b.add(dense_ffn(b, h, "_shexp", c.d_ff_shared), x);
    return moe_ffn(b, h, x, experts);
  });
}

ModelConfig example() {
  ModelConfig c = small_example("deepseek2");
  c.head_dim = 48, c.v_dim = 32, c.rope_dims = 16, c.kv_rank = 64, c.q_rank = 96;
  c.n_expert = 16, c.n_expert_used = 4, c.n_expert_shared = 2, c.d_ff_expert = 128, c.d_ff = 512, c.n_dense_lead = 1;
  c.n_group = 4, c.topk_group = 2, c.gating = 2, c.weights_normalized = true, c.weights_scale = 2.5f, c.norm_eps = 1e-6f;
  c.rope_scaling = "yarn", c.rope_factor = 40, c.rope_original_ctx = 4096, c.rope_log_multiplier = 0.1f;
  return c;
}

}  // namespace

const ArchDef kDeepseek2Arch = {"deepseek2", "DeepSeek-V2, V2-Lite, V3", configure, build, example};

}  // namespace moe

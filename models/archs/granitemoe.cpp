// Granite 3 MoE (IBM Granite 3.0 report): multipliers on embedding, attention scores, residual branches and logits (muP, arXiv
// 2203.03466), optionally a shared expert, embedding and head tied.
#include "models/archs/arch_rules.h"
#include "models/archs/archs.h"
#include "models/blocks/attention_block.h"
#include "models/blocks/ffn_block.h"
#include "models/blocks/rope_block.h"

namespace moe {
namespace {

Status configure(ModelConfig& c, const std::string& source) {
  if (c.logit_scale == 0) return Status::NotFound(source + ": key 'granitemoe.logit_scale' is missing or 0");
  return require_one_width(c, source);
}

void build(GraphBuilder& b) {
  const ModelConfig& c = b.config();
  const ValueId rope = rope_table(b);
  const float residual = c.residual_scale != 0 ? c.residual_scale : 1;
  AttentionBlock attention;
  attention.scale = c.attention_scale;
  MoeBlock experts;
  experts.normalize = true;
  experts.scale = weights_scale(c);
  build_decoder(b, [&](ValueId x, int) {
    const ValueId h = b.rms_norm(x, b.vector("attn_norm.weight", c.d_model, Role::kNorm), c.d_model);
    x = b.add(b.scale(attention_block(b, h, rope, attention), residual), x);
    const ValueId f = b.rms_norm(x, b.vector("ffn_norm.weight", c.d_model, Role::kNorm), c.d_model);
    if (c.d_ff_shared > 0) x = b.add(b.scale(dense_ffn(b, f, "_shexp", c.d_ff_shared), residual), x);
    return moe_ffn(b, f, x, experts, residual);
  });
}

ModelConfig example() {
  ModelConfig c = small_example("granitemoe");
  c.n_kv_head = c.n_head / 2;
  c.n_expert = 16, c.n_expert_used = 4, c.d_ff = 128, c.norm_eps = 1e-6f;
  c.embedding_scale = 12, c.residual_scale = 0.22f, c.attention_scale = 0.015625f, c.logit_scale = 6;
  return c;
}

}  // namespace

const ArchDef kGraniteMoeArch = {"granitemoe", "Granite 3 MoE", configure, build, example};

}  // namespace moe

// Llama (arXiv 2302.13971) and, with experts, Mixtral (arXiv 2401.04088): RMS norm, grouped-query attention with interleaved
// rotation, SwiGLU; Mixtral's router takes a softmax over the two best experts, which equals softmax, top-2, renormalise.
#include "models/archs/arch_rules.h"
#include "models/archs/archs.h"
#include "models/blocks/attention_block.h"
#include "models/blocks/ffn_block.h"
#include "models/blocks/rope_block.h"

namespace moe {
namespace {

Status configure(ModelConfig& c, const std::string& source) {
  if (c.n_expert == 0 && c.d_ff == 0) return Status::NotFound(source + ": key 'llama.feed_forward_length' is missing");
  if (c.n_expert > 0) MOE_TRY(require_one_width(c, source));
  return Status::Ok();
}

void build(GraphBuilder& b) {
  const ModelConfig& c = b.config();
  const ValueId rope = rope_table(b);
  AttentionBlock attention;
  attention.scale = c.attention_scale;
  MoeBlock experts;
  experts.normalize = true;
  experts.scale = weights_scale(c);
  build_decoder(b, [&](ValueId x, int) {
    x = b.add(
        attention_block(b, b.rms_norm(x, b.vector("attn_norm.weight", c.d_model, Role::kNorm), c.d_model), rope, attention), x);
    const ValueId h = b.rms_norm(x, b.vector("ffn_norm.weight", c.d_model, Role::kNorm), c.d_model);
    if (c.n_expert == 0) return b.add(dense_ffn(b, h, "", c.d_ff), x);
    if (c.d_ff_shared > 0) x = b.add(dense_ffn(b, h, "_shexp", c.d_ff_shared), x);
    return moe_ffn(b, h, x, experts);
  });
}

ModelConfig example() {
  ModelConfig c = small_example("llama");
  c.n_kv_head = c.n_head / 2;
  c.n_expert = 8, c.n_expert_used = 2, c.d_ff = 512;
  c.rope_base = 1e6f;
  return c;
}

}  // namespace

const ArchDef kLlamaArch = {"llama", "Llama (dense) and Mixtral", configure, build, example};

}  // namespace moe

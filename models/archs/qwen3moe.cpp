// Qwen3-MoE (arXiv 2505.09388): norms on each query and key head, 128 experts of which 8 are used with renormalised weights.
#include "models/archs/arch_rules.h"
#include "models/archs/archs.h"
#include "models/blocks/attention_block.h"
#include "models/blocks/ffn_block.h"
#include "models/blocks/rope_block.h"

namespace moe {
namespace {

Status configure(ModelConfig& c, const std::string& source) { return require_expert_width(c, source); }

void build(GraphBuilder& b) {
  const ModelConfig& c = b.config();
  const ValueId rope = rope_table(b);
  AttentionBlock attention;
  attention.style = RopeStyle::kHalfSplit;
  attention.qk_norm = QkNorm::kPerHead;
  MoeBlock experts;
  experts.normalize = true;
  experts.scale = weights_scale(c);
  build_decoder(b, [&](ValueId x, int) {
    x = b.add(
        attention_block(b, b.rms_norm(x, b.vector("attn_norm.weight", c.d_model, Role::kNorm), c.d_model), rope, attention), x);
    return moe_ffn(b, b.rms_norm(x, b.vector("ffn_norm.weight", c.d_model, Role::kNorm), c.d_model), x, experts);
  });
}

ModelConfig example() {
  ModelConfig c = small_example("qwen3moe");
  c.n_kv_head = c.n_head / 4, c.head_dim = c.v_dim = c.rope_dims = 64;
  c.n_expert = 32, c.n_expert_used = 8, c.d_ff = 512, c.d_ff_expert = 128;
  c.rope_base = 1e6f, c.norm_eps = 1e-6f;
  return c;
}

}  // namespace

const ArchDef kQwen3MoeArch = {"qwen3moe", "Qwen3-MoE", configure, build, example};

}  // namespace moe

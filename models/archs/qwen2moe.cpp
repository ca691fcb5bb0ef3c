// Qwen1.5-MoE and Qwen2-MoE (arXiv 2407.10671 §2.2.2): biases on q, k, v, and beside the routed experts a shared one behind a
// sigmoid gate of its own.
#include "models/archs/arch_rules.h"
#include "models/archs/archs.h"
#include "models/blocks/attention_block.h"
#include "models/blocks/ffn_block.h"
#include "models/blocks/rope_block.h"

namespace moe {
namespace {

Status configure(ModelConfig& c, const std::string& source) {
  MOE_TRY(require_expert_width(c, source));
  if (c.d_ff_shared == 0) c.d_ff_shared = c.d_ff;
  if (c.d_ff_shared == 0) return Status::NotFound(source + ": key 'qwen2moe.expert_shared_feed_forward_length' is missing");
  return Status::Ok();
}

void build(GraphBuilder& b) {
  const ModelConfig& c = b.config();
  const ValueId rope = rope_table(b);
  AttentionBlock attention;
  attention.style = RopeStyle::kHalfSplit;
  attention.qkv_bias = Presence::kUsual;
  MoeBlock experts;
  experts.scale = weights_scale(c);
  build_decoder(b, [&](ValueId x, int) {
    x = b.add(
        attention_block(b, b.rms_norm(x, b.vector("attn_norm.weight", c.d_model, Role::kNorm), c.d_model), rope, attention), x);
    const ValueId h = b.rms_norm(x, b.vector("ffn_norm.weight", c.d_model, Role::kNorm), c.d_model);
    const ValueId gate = b.op(Op::kSigmoid, {b.linear(h, b.row_vector("ffn_gate_inp_shexp.weight", c.d_model, Role::kRouter))});
    const ValueId shared = b.op(Op::kMul, {dense_ffn(b, h, "_shexp", c.d_ff_shared), gate});
    return moe_ffn(b, h, b.add(shared, x), experts);
  });
}

ModelConfig example() {
  ModelConfig c = small_example("qwen2moe");
  c.n_expert = 12, c.n_expert_used = 4, c.d_ff = c.d_ff_expert = 128, c.d_ff_shared = 512;
  c.rope_base = 1e6f, c.norm_eps = 1e-6f;
  return c;
}

}  // namespace

const ArchDef kQwen2MoeArch = {"qwen2moe", "Qwen1.5-MoE, Qwen2-MoE", configure, build, example};

}  // namespace moe

// gpt-oss (OpenAI, arXiv 2508.10925): biases everywhere, sliding windows on alternate layers, attention sinks, a clamped SwiGLU
// with alpha 1.702 and limit 7, YaRN, and a softmax over the selected experts' logits.
#include "models/archs/arch_rules.h"
#include "models/archs/archs.h"
#include "models/blocks/attention_block.h"
#include "models/blocks/ffn_block.h"
#include "models/blocks/rope_block.h"

namespace moe {
namespace {

Status configure(ModelConfig& c, const std::string& source) {
  MOE_TRY(require_expert_width(c, source));
  if (c.window_period == 0) c.window_period = 2;
  return Status::Ok();
}

void build(GraphBuilder& b) {
  const ModelConfig& c = b.config();
  const ValueId rope = rope_table(b);
  AttentionBlock attention;
  attention.style = RopeStyle::kHalfSplit;
  attention.qkv_bias = attention.out_bias = Presence::kUsual;
  attention.sinks = true;
  MoeBlock experts;
  experts.gating = Gating::kSoftmaxSelected;
  experts.scale = weights_scale(c);
  experts.glu = {GateUnit::kSwiGlu, 1.702f, 7.0f};
  experts.biased = true;
  build_decoder(b, [&](ValueId x, int layer) {
    attention.window = layer % c.window_period < c.window_period - 1 ? c.window : 0;
    x = b.add(
        attention_block(b, b.rms_norm(x, b.vector("attn_norm.weight", c.d_model, Role::kNorm), c.d_model), rope, attention), x);
    return moe_ffn(b, b.rms_norm(x, b.vector("post_attention_norm.weight", c.d_model, Role::kNorm), c.d_model), x, experts);
  });
}

ModelConfig example() {
  ModelConfig c = small_example("gpt-oss");
  c.n_kv_head = c.n_head / 2;
  c.n_expert = 8, c.n_expert_used = 4, c.d_ff = c.d_ff_expert = 256;
  c.window = 64, c.rope_base = 150000, c.rope_scaling = "yarn", c.rope_factor = 32, c.rope_original_ctx = 4096;
  return c;
}

}  // namespace

const ArchDef kGptOssArch = {"gpt-oss", "gpt-oss", configure, build, example};

}  // namespace moe

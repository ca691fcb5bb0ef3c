// OLMoE (arXiv 2409.02060): norms over the whole query and key rows, half-split rotation, 64 small experts of which 8 are used
// with their softmax probabilities as they are.
#include "models/archs/arch_rules.h"
#include "models/archs/archs.h"
#include "models/blocks/attention_block.h"
#include "models/blocks/ffn_block.h"
#include "models/blocks/rope_block.h"

namespace moe {
namespace {

Status configure(ModelConfig& c, const std::string& source) { return require_one_width(c, source); }

void build(GraphBuilder& b) {
  const ModelConfig& c = b.config();
  const ValueId rope = rope_table(b);
  AttentionBlock attention;
  attention.style = RopeStyle::kHalfSplit;
  attention.qk_norm = QkNorm::kWholeRow;
  MoeBlock experts;
  experts.scale = weights_scale(c);
  build_decoder(b, [&](ValueId x, int) {
    x = b.add(
        attention_block(b, b.rms_norm(x, b.vector("attn_norm.weight", c.d_model, Role::kNorm), c.d_model), rope, attention), x);
    return moe_ffn(b, b.rms_norm(x, b.vector("ffn_norm.weight", c.d_model, Role::kNorm), c.d_model), x, experts);
  });
}

ModelConfig example() {
  ModelConfig c = small_example("olmoe");
  c.n_expert = 16, c.n_expert_used = 4, c.d_ff = 128;
  return c;
}

}  // namespace

const ArchDef kOlmoeArch = {"olmoe", "OLMoE", configure, build, example};

}  // namespace moe

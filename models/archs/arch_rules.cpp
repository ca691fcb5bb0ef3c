#include "models/archs/arch_rules.h"

namespace moe {

Status require_expert_width(ModelConfig& c, const std::string& source) {
  const auto missing = [&](const char* key) {
    return Status::NotFound(source + ": key '" + c.arch + "." + key + "' is missing or 0");
  };
  if (c.n_expert == 0) return missing("expert_count");
  if (c.d_ff_expert == 0) c.d_ff_expert = c.d_ff;
  if (c.d_ff_expert == 0) return missing("expert_feed_forward_length");
  return Status::Ok();
}

Status require_one_width(ModelConfig& c, const std::string& source) {
  MOE_TRY(require_expert_width(c, source));
  c.d_ff = c.d_ff_expert;
  return Status::Ok();
}

float weights_scale(const ModelConfig& c) { return c.weights_scale != 0 ? c.weights_scale : 1; }

ModelConfig small_example(const char* arch) {
  ModelConfig c;
  c.arch = arch;
  c.n_ctx_train = 4096, c.n_layer = 4, c.d_model = 256;
  c.n_head = c.n_kv_head = 8;
  c.head_dim = c.v_dim = c.rope_dims = 32;
  return c;
}

}  // namespace moe

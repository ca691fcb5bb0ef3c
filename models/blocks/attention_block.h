// Attention sub-layers as graph fragments.
#pragma once

#include "models/graph_builder.h"

namespace moe {

enum class QkNorm { kOff, kWholeRow, kPerHead };

struct AttentionBlock {
  RopeStyle style = RopeStyle::kInterleaved;
  QkNorm qk_norm = QkNorm::kOff;
  Presence qkv_bias = Presence::kOptional;
  Presence out_bias = Presence::kOptional;
  bool sinks = false;
  int64_t window = 0;
  float scale = 0;  // 0: 1 / √head_dim
};

// Grouped-query attention of the current layer over its cache: q, k, v from attn_{q,k,v} or a fused attn_qkv, rotation,
// attention, attn_output. x (T, d_model) is normed already; the result is (T, d_model) without the residual.
ValueId attention_block(GraphBuilder& b, ValueId x, ValueId rope, const AttentionBlock& block);

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434 §2.1) in its absorbed form: the cache holds one row of
// kv_rank + rope_dims a token, W_UK is folded into the query and W_UV into the result.
ValueId latent_attention_block(GraphBuilder& b, ValueId x, ValueId rope, float scale);

}  // namespace moe

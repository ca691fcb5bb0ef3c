// Hyper-parameters of a model, as its GGUF metadata states them. One list of keys (visit_config) serves reading, writing and
// printing. What differs in meaning between architectures is settled in archs/<arch>.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"
#include "models/expert_layout.h"
#include "models/io/metadata.h"

namespace moe {

struct ModelConfig {
  std::string arch;  // general.architecture
  std::string name;  // general.name

  int n_vocab = 0, n_ctx_train = 0, n_layer = 0, d_model = 0;
  int n_head = 0, n_kv_head = 0;
  int head_dim = 0, v_dim = 0;  // of a key head and a value head
  int d_ff = 0;                 // of a dense layer
  int n_expert = 0, n_expert_used = 0, n_expert_shared = 0;
  int d_ff_expert = 0, d_ff_shared = 0;
  int n_dense_lead = 0;  // leading layers without experts
  float norm_eps = 1e-5f;

  int rope_dims = 0;
  float rope_base = 10000;
  std::string rope_scaling;  // "", "none", "linear", "yarn"
  float rope_factor = 0;     // 0: no scaling
  int rope_original_ctx = 0;
  float rope_attn_factor = 1;
  float rope_log_multiplier = 0;  // YaRN: 0.1 · mscale_all_dim (DeepSeek-V2)

  int window = 0;         // sliding window, keys; 0: none
  int window_period = 0;  // every period-th layer sees everything; 0: the architecture's own rule

  float embedding_scale = 0, residual_scale = 0, attention_scale = 0, logit_scale = 0;  // 0: not given

  int gating = 0;  // 0 not given, 1 softmax, 2 sigmoid, 3 softmax over the selected
  bool weights_normalized = false;
  float weights_scale = 0;  // 0: not given
  int n_group = 0, topk_group = 0;

  int q_rank = 0, kv_rank = 0;  // latent attention (DeepSeek)
  int head_dim_mla = 0, v_dim_mla = 0;

  std::vector<LayerExperts> layer_experts;  // (n_layer) where layers differ: n_expert is the largest count then; else empty

  // Of a layer with experts.
  LayerExperts experts_of(int layer) const;

  bool operator==(const ModelConfig&) const = default;
};

// Calls v(key suffix behind "<arch>.", member, required) for every key.
template <class C, class V>
void visit_config(C& c, V&& v) {
  v("vocab_size", c.n_vocab, false);
  v("context_length", c.n_ctx_train, true);
  v("block_count", c.n_layer, true);
  v("embedding_length", c.d_model, true);
  v("feed_forward_length", c.d_ff, false);
  v("attention.head_count", c.n_head, true);
  v("attention.head_count_kv", c.n_kv_head, false);
  v("attention.key_length", c.head_dim, false);
  v("attention.value_length", c.v_dim, false);
  v("attention.key_length_mla", c.head_dim_mla, false);
  v("attention.value_length_mla", c.v_dim_mla, false);
  v("attention.layer_norm_rms_epsilon", c.norm_eps, true);
  v("attention.scale", c.attention_scale, false);
  v("attention.sliding_window", c.window, false);
  v("attention.q_lora_rank", c.q_rank, false);
  v("attention.kv_lora_rank", c.kv_rank, false);
  v("rope.dimension_count", c.rope_dims, false);
  v("rope.freq_base", c.rope_base, false);
  v("rope.scaling.type", c.rope_scaling, false);
  v("rope.scaling.factor", c.rope_factor, false);
  v("rope.scaling.original_context_length", c.rope_original_ctx, false);
  v("rope.scaling.attn_factor", c.rope_attn_factor, false);
  v("rope.scaling.yarn_log_multiplier", c.rope_log_multiplier, false);
  v("expert_count", c.n_expert, false);
  v("expert_used_count", c.n_expert_used, false);
  v("expert_shared_count", c.n_expert_shared, false);
  v("expert_feed_forward_length", c.d_ff_expert, false);
  v("expert_shared_feed_forward_length", c.d_ff_shared, false);
  v("expert_gating_func", c.gating, false);
  v("expert_weights_norm", c.weights_normalized, false);
  v("expert_weights_scale", c.weights_scale, false);
  v("expert_group_count", c.n_group, false);
  v("expert_group_used_count", c.topk_group, false);
  v("leading_dense_block_count", c.n_dense_lead, false);
  v("embedding_scale", c.embedding_scale, false);
  v("residual_scale", c.residual_scale, false);
  v("logit_scale", c.logit_scale, false);
}

// Reads and checks what every architecture shares: required keys, ranges, defaults (head_dim = d_model / n_head, …). Keys given
// once per layer (head counts) must be equal in all layers.
Result<ModelConfig> read_config(const Metadata& metadata);

// The keys of `config` that differ from a default ModelConfig, and general.architecture, general.name.
void write_config(const ModelConfig& config, Metadata& metadata);

}  // namespace moe

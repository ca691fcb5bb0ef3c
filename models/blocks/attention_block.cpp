#include "models/blocks/attention_block.h"

#include <cmath>

namespace moe {
namespace {

struct Projections {
  ValueId q, k, v;
};

Projections project(GraphBuilder& b, ValueId x, const AttentionBlock& block) {
  const ModelConfig& c = b.config();
  const int64_t d = c.d_model, nq = int64_t{c.n_head} * c.head_dim, nk = int64_t{c.n_kv_head} * c.head_dim,
                nv = int64_t{c.n_kv_head} * c.v_dim;
  if (b.has("attn_qkv.weight")) {
    const int64_t all = nq + nk + nv;
    const bool biased = b.has("attn_qkv.bias");
    const auto part = [&](int64_t begin, int64_t n) {
      return b.linear(x, b.matrix_rows("attn_qkv.weight", begin, n, all, d),
                      biased ? b.vector_rows("attn_qkv.bias", begin, n, all) : kNone);
    };
    return {part(0, nq), part(nq, nk), part(nq + nk, nv)};
  }
  const auto part = [&](const char* which, int64_t n) {
    const std::string base = std::string("attn_") + which;
    return b.linear(x, b.matrix(base + ".weight", {n, d}), b.vector(base + ".bias", n, Role::kBias, block.qkv_bias));
  };
  const ValueId q = part("q", nq), k = part("k", nk);
  return {q, k, part("v", nv)};
}

ValueId normed(GraphBuilder& b, ValueId x, const char* weight, int64_t row, const AttentionBlock& block) {
  if (block.qk_norm == QkNorm::kOff) return x;
  const int64_t group = block.qk_norm == QkNorm::kPerHead ? b.config().head_dim : row;
  return b.rms_norm(x, b.vector(weight, group, Role::kNorm), group);
}

// `values`: the run of a row that is read on its own (in latent attention less than all of it). q8_0 cuts rows in blocks of 32.
ValueId new_cache(GraphBuilder& b, const char* which, DType dtype, int64_t heads, int64_t dim, int64_t values) {
  const int64_t block = traits(dtype).block_elements;
  for (const int64_t n : {dim, values}) {
    if (n % block == 0) continue;
    b.fail(Status::Unsupported("cache type " + std::string(traits(dtype).name) + ": wanted heads of a multiple of " +
                               std::to_string(block) + ", this model's have " + std::to_string(n) + "; use f16"));
    dtype = DType::kF32;  // building goes on
  }
  return b.state(b.name(which), dtype, {b.options().n_slots, heads, b.options().n_ctx, dim});
}

}  // namespace

ValueId attention_block(GraphBuilder& b, ValueId x, ValueId rope, const AttentionBlock& block) {
  const ModelConfig& c = b.config();
  Projections p = project(b, x, block);
  p.q = normed(b, p.q, "attn_q_norm.weight", int64_t{c.n_head} * c.head_dim, block);
  p.k = normed(b, p.k, "attn_k_norm.weight", int64_t{c.n_kv_head} * c.head_dim, block);
  const RopeAttrs rotate{c.head_dim, 0, c.rope_dims, block.style};
  p.q = b.op(Op::kRope, {p.q, rope}, rotate);
  p.k = b.op(Op::kRope, {p.k, rope}, rotate);

  CacheValues& cache = b.model().caches[static_cast<size_t>(b.layer())];
  cache.k = new_cache(b, "cache_k", b.options().cache_k, c.n_kv_head, c.head_dim, c.head_dim);
  cache.v = new_cache(b, "cache_v", b.options().cache_v, c.n_kv_head, c.v_dim, c.v_dim);
  AttentionAttrs a;
  a.n_head = c.n_head, a.n_kv_head = c.n_kv_head, a.head_dim = c.head_dim, a.v_dim = c.v_dim, a.window = block.window;
  a.scale = block.scale != 0 ? block.scale : 1 / std::sqrt(static_cast<float>(c.head_dim));
  const ValueId sinks = block.sinks ? b.vector("attn_sinks.weight", c.n_head, Role::kBias) : kNone;
  const ValueId y = b.op(Op::kAttention, {p.q, p.k, p.v, cache.k, cache.v, b.model().positions, b.model().slots, sinks}, a);
  return b.linear(y, b.matrix("attn_output.weight", {c.d_model, int64_t{c.n_head} * c.v_dim}),
                  b.vector("attn_output.bias", c.d_model, Role::kBias, block.out_bias));
}

ValueId latent_attention_block(GraphBuilder& b, ValueId x, ValueId rope, float scale) {
  const ModelConfig& c = b.config();
  const int64_t h = c.n_head, r = c.kv_rank, rot = c.rope_dims, dk = c.head_dim_mla, dv = c.v_dim_mla, nope = dk - rot;

  ValueId q = x;
  int64_t q_in = c.d_model;
  const bool low_rank = c.q_rank > 0 && (b.declaring() || b.has("attn_q_a.weight"));
  if (c.q_rank == 0 && b.has("attn_q_a.weight"))
    b.fail(Status::NotFound("key '" + c.arch + ".attention.q_lora_rank' is missing or 0: wanted the rows of tensor '" +
                            b.name("attn_q_a.weight") + "'"));
  if (low_rank) {
    q = b.linear(x, b.matrix("attn_q_a.weight", {c.q_rank, c.d_model}));
    q = b.rms_norm(q, b.vector("attn_q_a_norm.weight", c.q_rank, Role::kNorm), c.q_rank);
    q_in = c.q_rank;
  }
  q = b.linear(q, b.matrix(low_rank ? "attn_q_b.weight" : "attn_q.weight", {h * dk, q_in}));
  q = b.op(Op::kRope, {q, rope}, RopeAttrs{dk, nope, rot, RopeStyle::kInterleaved});
  const ValueId q_nope = b.op(Op::kSlice, {q}, GroupAttrs{h, 0, nope});
  const ValueId q_rot = b.op(Op::kSlice, {q}, GroupAttrs{h, nope, dk});

  const ValueId kv = b.linear(x, b.matrix("attn_kv_a_mqa.weight", {r + rot, c.d_model}));
  ValueId latent = b.op(Op::kSlice, {kv}, GroupAttrs{1, 0, r});
  latent = b.rms_norm(latent, b.vector("attn_kv_a_norm.weight", r, Role::kNorm), r);
  ValueId k_rot = b.op(Op::kSlice, {kv}, GroupAttrs{1, r, r + rot});
  k_rot = b.op(Op::kRope, {k_rot, rope}, RopeAttrs{rot, 0, rot, RopeStyle::kInterleaved});
  const ValueId k = b.op(Op::kConcat, {latent, k_rot}, GroupAttrs{1, 0, 0});

  // Newer files split kv_b into its two halves and store the key half transposed.
  const bool split = b.has("attn_k_b.weight");
  const ValueId kv_b = split ? kNone : b.matrix("attn_kv_b.weight", {h * (nope + dv), r});
  const ValueId q_latent = split ? b.op(Op::kHeadLinear, {q_nope, b.head_matrices("attn_k_b.weight", h, r, nope)},
                                        HeadLinearAttrs{h, r, 0, r, false})
                                 : b.op(Op::kHeadLinear, {q_nope, kv_b}, HeadLinearAttrs{h, nope + dv, 0, nope, true});
  q = b.op(Op::kConcat, {q_latent, q_rot}, GroupAttrs{h, 0, 0});

  CacheValues& cache = b.model().caches[static_cast<size_t>(b.layer())];
  cache.k = new_cache(b, "cache_k", b.options().cache_k, 1, r + rot, r);
  AttentionAttrs a;
  a.n_head = h, a.n_kv_head = 1, a.head_dim = r + rot, a.v_dim = r, a.scale = scale;
  const ValueId y = b.op(Op::kAttention, {q, k, kNone, cache.k, kNone, b.model().positions, b.model().slots, kNone}, a);

  const ValueId heads =
      split ? b.op(Op::kHeadLinear, {y, b.head_matrices("attn_v_b.weight", h, dv, r)}, HeadLinearAttrs{h, dv, 0, dv, false})
            : b.op(Op::kHeadLinear, {y, kv_b}, HeadLinearAttrs{h, nope + dv, nope, dv, false});
  return b.linear(heads, b.matrix("attn_output.weight", {c.d_model, h * dv}));
}

}  // namespace moe

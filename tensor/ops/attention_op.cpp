// Attention of a batch's queries over the cache of their slots (sequences).
#include <algorithm>

#include "tensor/autodiff.h"
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// q (T, n_head·head_dim; float32, or bfloat16 where the backend rounded it), k (T, n_kv_head·head_dim), v (T, n_kv_head·v_dim),
// cache_k (n_slots, n_kv_head, n_ctx, head_dim), cache_v (n_slots, n_kv_head, n_ctx, v_dim), positions and slots (T), sinks
// (n_head)
//
// First stores row t of k and v at (slots[t], positions[t]) of the caches, rounded to their format, for all t. Then each head h
// of token t meets the keys of its slot at positions max(0, p − window + 1) … p, p = positions[t] (window 0: from 0):
//
//   s_j = softcap(scale · q_h · k_j),  y_h = Σ_j exp(s_j) v_j / (Σ_j exp(s_j) + exp(sinks[h]))     kv head: h · n_kv_head /
//   n_head
//
// The caller has filled every position in that range, in this run or an earlier one. Without v and cache_v the value of a key
// is its own first v_dim elements: latent attention (DeepSeek-V2 §2.1), one key head with the compressed row as key.
Status infer_attention(const Graph& g, const Node& n, std::vector<Value>& out) {
  const auto& a = std::get<AttentionAttrs>(n.attrs);
  ShapeRule rule(g, n, out);
  rule.require(a.n_head > 0 && a.n_kv_head > 0 && a.n_head % a.n_kv_head == 0,
               "n_head to be a multiple of n_kv_head, both > 0");
  rule.require(a.head_dim > 0 && a.v_dim > 0 && a.window >= 0, "head_dim > 0, v_dim > 0, window >= 0");
  rule.require((n.in[2] == kNone) == (n.in[4] == kNone), "v and cache_v, or neither");
  rule.require(n.in[4] != kNone || a.v_dim <= a.head_dim, "v_dim <= head_dim where values are the keys' first elements");
  rule.let('h', a.n_head).let('g', a.n_kv_head).let('d', a.head_dim).let('e', a.v_dim);
  rule.let('q', a.n_head * a.head_dim)
      .let('k', a.n_kv_head * a.head_dim)
      .let('v', a.n_kv_head * a.v_dim)
      .let('y', a.n_head * a.v_dim);
  rule.in(0, Accept::kActivation, "Nq").in(1, Accept::kF32, "Nk").in(2, Accept::kF32, "Nv");
  rule.in(3, Accept::kCache, "sgcd").in(4, Accept::kCache, "sgce");
  rule.in(5, Accept::kI32, "N").in(6, Accept::kI32, "N").in(7, Accept::kF32, "h");
  if (rule.ok()) rule.require(g.value(n.in[0]).dtype != DType::kA8, "q of f32 or bf16");
  for (const size_t i : {size_t{3}, size_t{4}}) {
    if (!rule.ok() || n.in[i] == kNone) continue;
    const Value& cache = g.value(n.in[i]);
    const int block = traits(cache.dtype).block_elements;
    rule.require(cache.kind == ValueKind::kState, "caches that are states");
    rule.require(
        cache.shape.last() % block == 0 && a.v_dim % block == 0,
        "head_dim and v_dim to be multiples of " + std::to_string(block) + " in a cache of " + traits(cache.dtype).name);
  }
  return rule.out("Ny").status();
}

// A run is priced as one sequence: its queries share the keys they read.
Cost cost_attention(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const auto& a = std::get<AttentionAttrs>(n.attrs);
  const double tokens = c.rows(c.in(0)), length = static_cast<double>(run.kv_length), window = static_cast<double>(a.window);
  const double met = a.window ? std::min(length, window) : length;                   // keys of one query
  const double touched = a.window ? std::min(length, window + tokens - 1) : length;  // keys of all
  const auto row_bytes = [&](size_t cache) {
    return c.has(cache)
               ? static_cast<double>(a.n_kv_head) * static_cast<double>(dtype_bytes(c.in(cache).dtype, c.shape(cache).last()))
               : 0;
  };
  const double row = row_bytes(3) + row_bytes(4);
  const double per_key = 2 * static_cast<double>(a.head_dim + a.v_dim) + 4 + (a.softcap > 0 ? 2 : 0);  // scale, max, exp, sum
  Cost cost;
  cost.flops = tokens * static_cast<double>(a.n_head) * met * per_key;
  cost.bytes_read = c.bytes(0) + c.bytes(1) + c.bytes(2) + c.bytes(5) + c.bytes(6) + c.bytes(7) + touched * row;
  cost.bytes_written = c.out_bytes() + tokens * row;
  return cost;
}

// The reverse of attention whose keys are all of this run, which begins every sequence at position 0: q, k and v as the op got
// them, y its result, dy (T, n_head·v_dim). With p_j the weight of key j, and s_j before and c_j after the softcap,
//
//   D = Σ dy · y                              grad_sinks[h] += −Σ_t p_sink D
//   dv_j += p_j dy                            dc_j = p_j (dy · v_j − D)     ds_j = dc_j (1 − (c_j / softcap)²)
//   dq += scale · ds_j k_j                    dk_j += scale · ds_j q
//
// Positions of a slot are 0, 1, … without gaps, in any order and with other slots between them.
Status infer_attention_grad(const Graph& g, const Node& n, std::vector<Value>& out) {
  const auto& a = std::get<AttentionAttrs>(n.attrs);
  ShapeRule rule(g, n, out);
  rule.require(a.n_head > 0 && a.n_kv_head > 0 && a.n_head % a.n_kv_head == 0,
               "n_head to be a multiple of n_kv_head, both > 0");
  rule.require(a.head_dim > 0 && a.v_dim > 0 && a.window >= 0, "head_dim > 0, v_dim > 0, window >= 0");
  rule.require(n.in[7] != kNone || n.in[8] == kNone, "sinks where grad_sinks is");
  rule.let('h', a.n_head).let('q', a.n_head * a.head_dim).let('k', a.n_kv_head * a.head_dim);
  rule.let('v', a.n_kv_head * a.v_dim).let('y', a.n_head * a.v_dim);
  rule.in(0, Accept::kF32, "Nq").in(1, Accept::kF32, "Nk").in(2, Accept::kF32, "Nv");
  rule.in(3, Accept::kF32, "Ny").in(4, Accept::kF32, "Ny").in(5, Accept::kI32, "N").in(6, Accept::kI32, "N");
  rule.in(7, Accept::kF32, "h").in(8, Accept::kGradient, "h");
  return rule.out("Nq").out("Nk").out("Nv").status();
}

// Five products where attention has two: scores, dP, dq and dk, dv.
Cost cost_attention_grad(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const auto& a = std::get<AttentionAttrs>(n.attrs);
  const double length = static_cast<double>(run.kv_length);
  const double met = a.window ? std::min(length, static_cast<double>(a.window)) : length;
  const double per_key = 2 * static_cast<double>(3 * a.head_dim + 2 * a.v_dim) + 5 + (a.softcap > 0 ? 5 : 0);
  Cost cost = c.streaming(c.rows(c.in(0)) * static_cast<double>(a.n_head) * met * per_key);
  cost.bytes_written += c.bytes(8);
  return cost;
}

Status gradient_attention(GradientBuilder& b, const Node& n) {
  if (n.in[2] == kNone) return Status::Unsupported("of latent attention");
  b.op(Op::kAttentionGrad, {n.in[0], n.in[1], n.in[2], n.out[0], b.dy(), n.in[5], n.in[6], n.in[7], b.weight_state(7)},
       n.attrs);
  const std::vector<ValueId> made = b.graph().nodes.back().out;
  for (size_t i = 0; i < made.size(); ++i) b.give(i, made[i]);
  return Status::Ok();
}

}  // namespace

OpDef attention_op() {
  return {.op = Op::kAttention,
          .name = "attention",
          .inputs = {"q", "k", "v?", "cache_k", "cache_v?", "positions", "slots", "sinks?"},
          .outputs = {"y"},
          .attrs = attrs_index<AttentionAttrs>(),
          .infer = infer_attention,
          .cost = cost_attention,
          .gradient = gradient_attention};
}

OpDef attention_grad_op() {
  return {.op = Op::kAttentionGrad,
          .name = "attention_grad",
          .inputs = {"q", "k", "v", "y", "dy", "positions", "slots", "sinks?", "grad_sinks?"},
          .outputs = {"dq", "dk", "dv"},
          .attrs = attrs_index<AttentionAttrs>(),
          .infer = infer_attention_grad,
          .cost = cost_attention_grad};
}

}  // namespace moe

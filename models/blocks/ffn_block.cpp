#include "models/blocks/ffn_block.h"

#include <algorithm>

namespace moe {
namespace {

// The runtime tables of the current layer's routing: see route in tensor/ops.
void add_tables(GraphBuilder& b, RouterValues& r, int64_t n_weights) {
  const int64_t E = r.n_experts;
  const auto table = [&](const char* which, DType dtype, Shape shape) {
    return b.input("routing." + std::to_string(b.layer()) + "." + which, dtype, shape);
  };
  r.params = table("params", DType::kF32, {8});
  r.allow = table("allow", DType::kI8, {b.options().n_classes, E});
  r.bias = table("bias", DType::kF32, {E});
  r.redirect = table("redirect", DType::kI32, {E});
  r.width = table("width", DType::kI32, {n_weights});
  if (!r.places.empty()) r.place = table("place", DType::kI32, {E});
}

int64_t k_capacity(const GraphBuilder& b, const RouterValues& r) {
  const std::vector<int>& k = b.options().k_capacity;
  return k.empty() ? r.k : k[static_cast<size_t>(b.layer())];
}

// The router's choice, in training with experts taken away before it and full ones after it.
void add_route(GraphBuilder& b, RouterValues& r, const RouteAttrs& a, ValueId selection_bias) {
  const ModelGraph& m = b.model();
  const bool train = b.options().train;
  ValueId seen = r.logits;
  if (train) seen = b.op(Op::kDropExperts, {seen, m.drop, r.allow, m.token_class}, DropAttrs{a.k_capacity, b.layer()});
  r.ids = b.op(Op::kRoute, {seen, selection_bias, r.params, r.allow, m.token_class, r.bias, r.redirect, m.balance, r.place}, a);
  r.weights = b.graph().nodes.back().out[1];
  if (train) r.ids = b.op(Op::kLimitExperts, {r.ids, seen, r.allow, m.token_class, m.capacity}, LimitAttrs{b.layer()});
}

}  // namespace

ValueId dense_ffn(GraphBuilder& b, ValueId x, const std::string& kind, int64_t d_ff, GluAttrs glu) {
  const int64_t d = b.config().d_model;
  const auto part = [&](const char* which, ValueId from, int64_t n_out, int64_t n_in) {
    const std::string base = which + kind;
    return b.linear(from, b.matrix(base + ".weight", {n_out, n_in}),
                    b.vector(base + ".bias", n_out, Role::kBias, Presence::kOptional));
  };
  const ValueId gate = part("ffn_gate", x, d_ff, d), up = part("ffn_up", x, d_ff, d);
  return part("ffn_down", b.op(Op::kGlu, {gate, up}, glu), d, d_ff);
}

ValueId moe_ffn(GraphBuilder& b, ValueId x, ValueId residual, const MoeBlock& block, float residual_scale) {
  const ModelConfig& c = b.config();
  const LayerExperts experts = c.experts_of(b.layer());
  if (experts.n == 0) return residual;
  const int64_t d = c.d_model, E = experts.rows, n_weights = experts.n, f = experts.d_ff;
  const Presence bias = block.biased ? Presence::kRequired : Presence::kOptional;
  RouterValues& r = b.model().routers[static_cast<size_t>(b.layer())];
  r.n_experts = experts.rows, r.k = std::min(c.n_expert_used, experts.n), r.d_ff = experts.d_ff, r.places = experts.place;
  r.n_group = c.n_group > 1 ? c.n_group : 1, r.topk_group = c.n_group > 1 ? c.topk_group : 1;
  add_tables(b, r, n_weights);

  r.logits = b.linear(x, b.matrix("ffn_gate_inp.weight", {E, d}, Presence::kRequired, Role::kRouter),
                      b.vector("ffn_gate_inp.bias", E, Role::kBias, bias));
  RouteAttrs a;
  a.n_experts = E, a.k_capacity = k_capacity(b, r), a.gating = block.gating, a.normalize = block.normalize,
  a.scale = block.scale;
  a.n_group = r.n_group, a.topk_group = r.topk_group, a.group_top = block.group_top;
  const ValueId selection = block.selection_bias ? b.vector("exp_probs_b.bias", E, Role::kBias, Presence::kUsual) : kNone;
  add_route(b, r, a, selection);
  const std::string label = "blk." + std::to_string(b.layer());
  b.mark_output(r.ids, label + ".expert_ids");
  b.mark_output(r.weights, label + ".expert_weights");
  if (b.options().observe_router) b.mark_output(r.logits, label + ".router_logits");

  const auto project = [&](const char* which, ValueId from, ValueId rows_used, ValueId cols_used, int64_t n_out, int64_t n_in) {
    const std::string base = which;
    return b.op(Op::kMoeLinear, {from, r.ids, b.matrix(base + ".weight", {n_weights, n_out, n_in}),
                                 b.plain_matrix(base + ".bias", {n_weights, n_out}, Role::kBias, bias), rows_used, cols_used});
  };
  ValueId gate, up;
  if (b.has("ffn_gate_up_exps.weight")) {
    const ValueId both = project("ffn_gate_up_exps", x, kNone, kNone, 2 * f, d);
    gate = b.op(Op::kSlice, {both}, GroupAttrs{1, 0, f});
    up = b.op(Op::kSlice, {both}, GroupAttrs{1, f, 2 * f});
  } else {
    gate = project("ffn_gate_exps", x, r.width, kNone, f, d);
    up = project("ffn_up_exps", x, r.width, kNone, f, d);
  }
  const ValueId hidden = b.op(Op::kGlu, {gate, up}, block.glu);
  const ValueId out = project("ffn_down_exps", hidden, kNone, r.width, d, f);
  r.width_step = traits(b.graph().value(b.matrix("ffn_down_exps.weight", {n_weights, d, f})).dtype).block_elements;
  r.x = x;
  r.mixture = b.scale(b.op(Op::kWeightedSum, {out, r.ids, r.weights}), residual_scale);
  return b.add(r.mixture, residual);
}

}  // namespace moe

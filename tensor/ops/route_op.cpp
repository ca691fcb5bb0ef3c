// The router's decision: which experts a token uses, and with what weights.
#include "tensor/autodiff.h"
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// logits (T, E), selection_bias (E), and the runtime tables of the layer, which make its RoutingTopology:
//   params f32 (8)       k_min, k_max, threshold, temperature, 0, 0, 0, 0
//   allow i8 (C, E)      1: tokens of class c may use expert e
//   token_class i32 (T)  in [0, C)
//   bias f32 (E)         added to the selection score only
//   redirect i32 (E)     the expert that takes a masked expert's place; −1: none
// → ids i32 (T, K), weights f32 (T, K), K = k_capacity; a slot without work has id −1 and weight 0.
//
// For a token of class c:
//   1. e is usable if allow[c][e], or redirect[e] is an expert that is allowed, and its logit is above kDroppedLogit. Others do
//      not exist, not even in a sum.
//   2. Scores p of logits / temperature: softmax, sigmoid, or the logits themselves (kSoftmaxSelected).
//   3. Selection values p + selection_bias + bias; with n_group > 1 only those of the topk_group best groups stay.
//   4. The k_max largest (0: none), ties to the lower id, are slots 0, 1, …; slot i ≥ k_min stays while p_i > threshold · p_0
//      (kSoftmaxSelected: exponentials of p).
//   5. Weights are p of the slots that stay (softmax over them for kSoftmaxSelected), divided by their sum if `normalize`,
//      else scaled so that the sum does not change by what the threshold dropped; then times `scale`.
//   6. A masked expert's slot goes to its redirect; where that one has a slot already, the weights add up there.
//   7. With place i32 (E), ids e become place[e]: where the expert's weights are in stacks that lack some experts.
// balance f32 (4), absent: zeros, is for the reverse alone: see route_grad.
constexpr int64_t kParams = 8, kBalance = 4;

// The logits and tables that both ops have, and what makes them.
void require_route(ShapeRule& rule, const RouteAttrs& a) {
  rule.require(a.k_capacity > 0 && a.k_capacity <= a.n_experts, "0 < k_capacity <= n_experts");
  rule.require(a.n_group > 0 && a.n_experts % a.n_group == 0, "n_experts to be a multiple of n_group");
  rule.require(a.topk_group > 0 && a.topk_group <= a.n_group, "0 < topk_group <= n_group");
  rule.require(a.group_top == 1 || a.group_top == 2, "group_top to be 1 or 2");
  rule.let('E', a.n_experts).let('K', a.k_capacity).let('P', kParams).let('B', kBalance);
  rule.in(0, Accept::kF32, "NE")
      .in(1, Accept::kF32, "E")
      .in(2, Accept::kF32, "P")
      .in(3, Accept::kI8, "CE")
      .in(4, Accept::kI32, "N");
  rule.in(5, Accept::kF32, "E").in(6, Accept::kI32, "E");
}

Status infer_route(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  require_route(rule, std::get<RouteAttrs>(n.attrs));
  rule.in(7, Accept::kF32, "B").in(8, Accept::kI32, "E");
  return rule.out("NK", DType::kI32).out("NK").status();
}

Cost cost_route(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const auto& a = std::get<RouteAttrs>(n.attrs);
  return c.streaming(c.elements(0) * static_cast<double>(5 + a.k_capacity));  // gating, then one pass a slot
}

Status gradient_route(GradientBuilder& b, const Node& n) {
  if (n.in[8] != kNone) return Status::Unsupported("route: wanted no input place where it is differentiated, found one");
  std::vector<ValueId> in(n.in.begin(), n.in.begin() + 7);
  in.insert(in.end(), {n.out[0], n.out[1], b.dy(1), n.in[7]});
  b.give(0, b.op(Op::kRouteGrad, std::move(in), n.attrs));
  return Status::Ok();
}

// The inputs of route, its ids and weights, dweights (T, K) and balance = {α, β, 0, 0} → dlogits (T, E): of the weights, where
// which experts are chosen stays as it is, and of two losses, α · switch + β · z, in which ids are constant:
//   switch = E · Σ_e load_e · mean_t p_te    load: an expert's share of all slots (Switch Transformers, arXiv 2101.03961 §2.2)
//   z      = mean_t lse_t²                   lse: log Σ exp of logits / temperature (ST-MoE, arXiv 2202.08906 §3.2)
// p are softmax of logits / temperature, or for kSigmoid the scores divided by their sum (DeepSeek-V3, arXiv 2412.19437
// §2.1.2); sums and softmax are over the experts that a token may use. → losses (4): switch, z, entropy of the load in nats, 0.
// Neither α nor β is in them.
Status infer_route_grad(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  require_route(rule, std::get<RouteAttrs>(n.attrs));
  rule.in(7, Accept::kI32, "NK").in(8, Accept::kF32, "NK").in(9, Accept::kF32, "NK").in(10, Accept::kF32, "B");
  return rule.out("NE").out("B").status();
}

Cost cost_route_grad(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const auto& a = std::get<RouteAttrs>(n.attrs);
  return c.streaming(c.elements(0) * static_cast<double>(20 + a.k_capacity));  // route, gating's reverse, two losses
}

}  // namespace

OpDef route_op() {
  return {.op = Op::kRoute,
          .name = "route",
          .inputs = {"logits", "selection_bias?", "params", "allow", "token_class", "bias", "redirect", "balance?", "place?"},
          .outputs = {"ids", "weights"},
          .attrs = attrs_index<RouteAttrs>(),
          .infer = infer_route,
          .cost = cost_route,
          .gradient = gradient_route};
}

OpDef route_grad_op() {
  return {.op = Op::kRouteGrad,
          .name = "route_grad",
          .inputs = {"logits", "selection_bias?", "params", "allow", "token_class", "bias", "redirect", "ids", "weights",
                     "dweights?", "balance?"},
          .outputs = {"dlogits", "losses"},
          .attrs = attrs_index<RouteAttrs>(),
          .infer = infer_route_grad,
          .cost = cost_route_grad};
}

}  // namespace moe

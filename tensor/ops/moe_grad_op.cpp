// Reverse passes of products with routed experts: moe_linear_dx, moe_linear_dw, weighted_sum_grad.
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// With slots dx[t, s] = W_eᵀ dy[t, s], e = ids[t, s], else dx[t] their sum over s in ascending order of e. Of W_e the first
// rows_used[e] rows and cols_used[e] columns are there: dy beyond is not looked at, dx beyond is 0, as it is for slots of id
// −1. dy is bfloat16 only where w is.
Status infer_moe_linear_dx(const Graph& g, const Node& n, std::vector<Value>& out) {
  const DType dy = g.value(n.in[0]).dtype, w = g.value(n.in[2]).dtype;
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kActivation, "NKo").in(1, Accept::kI32, "NK").in(2, Accept::kWeight, "Eoi");
  rule.in(3, Accept::kI32, "E").in(4, Accept::kI32, "E");
  rule.require(dy == DType::kF32 || (dy == DType::kBF16 && w == DType::kBF16), "dy of f32, or of bf16 as w is");
  return rule.out(std::get<MoeGradAttrs>(n.attrs).slots ? "NKi" : "Ni").status();
}

Cost cost_moe_linear_dx(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const Shape& w = c.shape(2);
  const RoutedWork work(c, c.in(1), w[0]);
  Cost cost;
  cost.flops =
      work.slots * static_cast<double>(w[2]) * (2 * static_cast<double>(w[1]) + !std::get<MoeGradAttrs>(n.attrs).slots);
  cost.bytes_read = c.bytes(0) * work.share + c.bytes(1) + work.bytes(c.in(2)) + c.bytes(3) + c.bytes(4);
  cost.bytes_written = c.out_bytes();
  return cost;
}

// grad[e] += Σ dy[t, s] x[t]ᵀ (of slots x[t, s]) and grad_bias[e] += Σ dy[t, s] over the slots with ids[t, s] = e, t ascending;
// rows ≥ rows_used[e] and columns ≥ cols_used[e] gain nothing, nor do experts without tokens. At least one of the two is there.
Status infer_moe_linear_dw(const Graph& g, const Node& n, std::vector<Value>& out) {
  const DType dy = g.value(n.in[0]).dtype, x = g.value(n.in[1]).dtype;
  const bool slots = g.value(n.in[1]).shape.rank == 3;
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kActivation, "NKo").in(1, Accept::kActivation, slots ? "NKi" : "Ni").in(2, Accept::kI32, "NK");
  rule.in(5, Accept::kGradient, "Eoi").in(6, Accept::kGradient, "Eo");
  rule.require(n.in[5] != kNone || n.in[6] != kNone, "grad or grad_bias");
  rule.in(3, Accept::kI32, "E").in(4, Accept::kI32, "E");
  rule.require(dy == x && (dy == DType::kF32 || dy == DType::kBF16), "dy and x both of f32 or both of bf16");
  return rule.require(std::get<ProductGradAttrs>(n.attrs).scale == 1, "scale 1: moe_linear has none").status();
}

Cost cost_moe_linear_dw(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const Value& stacked = c.has(5) ? c.in(5) : c.in(6);
  const RoutedWork work(c, c.in(2), stacked.shape[0]);
  const double dy = work.slots * static_cast<double>(c.shape(0).last());
  Cost cost;
  cost.bytes_read = c.bytes(0) * work.share + c.bytes(2) + c.bytes(3) + c.bytes(4);
  if (c.has(5)) {
    cost.flops += 2 * dy * static_cast<double>(stacked.shape.last());
    cost.bytes_read += c.bytes(1) * (c.shape(1).rank == 3 ? work.share : 1);
  }
  if (c.has(6)) cost.flops += dy;
  for (const size_t i : {5, 6})
    if (c.has(i)) cost.bytes_written += work.bytes(c.in(i));
  cost.bytes_read += cost.bytes_written;
  return cost;
}

// dx[t, s] = weights[t, s] · dy[t] and dweights[t, s] = x[t, s] · dy[t] (dot product); both 0 in slots of id −1, whose x may be
// anything.
Status infer_weighted_sum_grad(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kF32, "NKn").in(1, Accept::kI32, "NK").in(2, Accept::kF32, "NK").in(3, Accept::kF32, "Nn");
  return rule.out("NKn").out("NK").status();
}

Cost cost_weighted_sum_grad(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const RoutedWork work(c, c.in(1), c.shape(1).last());
  const double row = static_cast<double>(c.shape(0).last());
  return {3 * work.slots * row, c.bytes(0) * work.share + c.bytes(1) + c.bytes(2) + c.bytes(3), c.out_bytes()};
}

}  // namespace

OpDef moe_linear_dx_op() {
  return {.op = Op::kMoeLinearDx,
          .name = "moe_linear_dx",
          .inputs = {"dy", "ids", "w", "rows_used?", "cols_used?"},
          .outputs = {"dx"},
          .attrs = attrs_index<MoeGradAttrs>(),
          .infer = infer_moe_linear_dx,
          .cost = cost_moe_linear_dx};
}

OpDef moe_linear_dw_op() {
  return {.op = Op::kMoeLinearDw,
          .name = "moe_linear_dw",
          .inputs = {"dy", "x", "ids", "rows_used?", "cols_used?", "grad?", "grad_bias?"},
          .outputs = {},
          .attrs = attrs_index<ProductGradAttrs>(),
          .infer = infer_moe_linear_dw,
          .cost = cost_moe_linear_dw};
}

OpDef weighted_sum_grad_op() {
  return {.op = Op::kWeightedSumGrad,
          .name = "weighted_sum_grad",
          .inputs = {"x", "ids", "weights", "dy"},
          .outputs = {"dx", "dweights"},
          .infer = infer_weighted_sum_grad,
          .cost = cost_weighted_sum_grad};
}

}  // namespace moe

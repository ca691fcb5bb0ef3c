// The reverse of linear: what reaches its input, and what its weight and bias gain.
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// dx = scale · dY W. dy is bfloat16 only where w is.
Status infer_linear_dx(const Graph& g, const Node& n, std::vector<Value>& out) {
  const DType dy = g.value(n.in[0]).dtype, w = g.value(n.in[1]).dtype;
  return ShapeRule(g, n, out)
      .in(0, Accept::kActivation, "No")
      .in(1, Accept::kWeight, "oi")
      .require(dy == DType::kF32 || (dy == DType::kBF16 && w == DType::kBF16), "dy of f32, or of bf16 as w is")
      .out("Ni")
      .status();
}

Cost cost_linear_dx(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const double per_output = 2 * static_cast<double>(c.shape(1)[0]) + (std::get<ScaleAttrs>(n.attrs).scale != 1);
  return c.streaming(c.out_elements() * per_output);
}

// grad += scale · dYᵀ X, grad_bias += scale · Σ dy over the rows. At least one of the two is there.
Status infer_linear_dw(const Graph& g, const Node& n, std::vector<Value>& out) {
  const DType dy = g.value(n.in[0]).dtype, x = g.value(n.in[1]).dtype;
  return ShapeRule(g, n, out)
      .in(0, Accept::kActivation, "No")
      .in(1, Accept::kActivation, "Ni")
      .in(2, Accept::kGradient, "oi")
      .in(3, Accept::kGradient, "o")
      .require(n.in[2] != kNone || n.in[3] != kNone, "grad or grad_bias")
      .require(dy == x && (dy == DType::kF32 || dy == DType::kBF16), "dy and x both of f32 or both of bf16")
      .status();
}

Cost cost_linear_dw(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const double scaled = std::get<ProductGradAttrs>(n.attrs).scale != 1, dy = c.elements(0);
  Cost cost = c.streaming(0);
  cost.bytes_written = c.bytes(2) + c.bytes(3);
  if (c.has(2)) cost.flops += 2 * dy * static_cast<double>(c.shape(2)[1]) + scaled * c.elements(2);
  if (c.has(3)) cost.flops += dy + scaled * c.elements(3);
  return cost;
}

}  // namespace

OpDef linear_dx_op() {
  return {.op = Op::kLinearDx,
          .name = "linear_dx",
          .inputs = {"dy", "w"},
          .outputs = {"dx"},
          .attrs = attrs_index<ScaleAttrs>(),
          .infer = infer_linear_dx,
          .cost = cost_linear_dx};
}

OpDef linear_dw_op() {
  return {.op = Op::kLinearDw,
          .name = "linear_dw",
          .inputs = {"dy", "x", "grad?", "grad_bias?"},
          .outputs = {},
          .attrs = attrs_index<ProductGradAttrs>(),
          .infer = infer_linear_dw,
          .cost = cost_linear_dw};
}

}  // namespace moe

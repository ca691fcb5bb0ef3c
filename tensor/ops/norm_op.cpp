// Normalisations over each `group` consecutive elements of a row: the whole row, or one head.
#include "tensor/autodiff.h"
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// A group of x divides n.
void whole_groups(ShapeRule& rule, const Node& n) {
  const int64_t group = std::get<NormAttrs>(n.attrs).group;
  rule.require(group > 0 && rule['n'] % group == 0, "rows that are a multiple of group=" + std::to_string(group));
  rule.let('g', group);
}

// rms_norm: y = x / sqrt(mean(x²) + eps) · weight. layer_norm: y = (x − mean) / sqrt(variance + eps) · weight + bias.
Status infer_norm(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kF32, "Nn");
  whole_groups(rule, n);
  rule.in(1, Accept::kF32, "g");
  if (n.op == Op::kLayerNorm) rule.in(2, Accept::kF32, "g");
  return rule.out("Nn").status();
}

Cost cost_rms_norm(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return c.streaming(c.out_elements() * (3 + c.has(1)));  // square, add, scale
}

Cost cost_layer_norm(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return c.streaming(c.out_elements() * (6 + c.has(2)));  // add, subtract, square, add, scale, weight
}

// With y = u · weight + bias, u = r · (x − mean) and r = 1 / sqrt(… + eps) of a group, means over the group:
//
//   rms_norm     du = dy · weight   dx = r · (du − u · mean(du · u))
//   layer_norm   du = dy · weight   dx = r · (du − u · mean(du · u) − mean(du))
//
// grad_weight += Σ dy · u and grad_bias += Σ dy over rows and groups, in an order of their own for each number of rows.
Status infer_norm_grad(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kF32, "Nn");
  whole_groups(rule, n);
  rule.in(1, Accept::kF32, "g").in(2, Accept::kF32, "Nn").in(3, Accept::kGradient, "g");
  if (n.op == Op::kLayerNormGrad) rule.in(4, Accept::kGradient, "g");
  return rule.out("Nn").status();
}

template <int kFlops>
Cost cost_norm_grad(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const bool bias = n.op == Op::kLayerNormGrad && c.has(4);
  Cost cost = c.streaming(c.out_elements() * (kFlops + c.has(1) + 2 * c.has(3) + bias));
  cost.bytes_written += c.bytes(3) + (bias ? c.bytes(4) : 0);
  return cost;
}

Status gradient_rms_norm(GradientBuilder& b, const Node& n) {
  b.give(0, b.op(Op::kRmsNormGrad, {n.in[0], n.in[1], b.dy(), b.weight_state(1)}, n.attrs));
  return Status::Ok();
}

Status gradient_layer_norm(GradientBuilder& b, const Node& n) {
  b.give(0, b.op(Op::kLayerNormGrad, {n.in[0], n.in[1], b.dy(), b.weight_state(1), b.weight_state(2)}, n.attrs));
  return Status::Ok();
}

}  // namespace

OpDef rms_norm_op() {
  return {.op = Op::kRmsNorm,
          .name = "rms_norm",
          .inputs = {"x", "weight?"},
          .outputs = {"y"},
          .attrs = attrs_index<NormAttrs>(),
          .infer = infer_norm,
          .cost = cost_rms_norm,
          .gradient = gradient_rms_norm};
}

OpDef layer_norm_op() {
  return {.op = Op::kLayerNorm,
          .name = "layer_norm",
          .inputs = {"x", "weight", "bias?"},
          .outputs = {"y"},
          .attrs = attrs_index<NormAttrs>(),
          .infer = infer_norm,
          .cost = cost_layer_norm,
          .gradient = gradient_layer_norm};
}

OpDef rms_norm_grad_op() {
  return {.op = Op::kRmsNormGrad,
          .name = "rms_norm_grad",
          .inputs = {"x", "weight?", "dy", "grad_weight?"},
          .outputs = {"dx"},
          .attrs = attrs_index<NormAttrs>(),
          .infer = infer_norm_grad,
          .cost = cost_norm_grad<8>};  // square, add, scale; product, add; product, subtract, scale
}

OpDef layer_norm_grad_op() {
  return {.op = Op::kLayerNormGrad,
          .name = "layer_norm_grad",
          .inputs = {"x", "weight", "dy", "grad_weight?", "grad_bias?"},
          .outputs = {"dx"},
          .attrs = attrs_index<NormAttrs>(),
          .infer = infer_norm_grad,
          .cost = cost_norm_grad<12>};  // and add, subtract; add, subtract
}

}  // namespace moe

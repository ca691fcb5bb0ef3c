// Normalisations over each `group` consecutive elements of a row: the whole row, or one head.
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// rms_norm: y = x / sqrt(mean(x²) + eps) · weight. layer_norm: y = (x − mean) / sqrt(variance + eps) · weight + bias.
Status infer_norm(const Graph& g, const Node& n, std::vector<Value>& out) {
  const int64_t group = std::get<NormAttrs>(n.attrs).group;
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kF32, "Nn");
  rule.require(group > 0 && rule['n'] % group == 0, "rows that are a multiple of group=" + std::to_string(group));
  rule.let('g', group).in(1, Accept::kF32, "g");
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

}  // namespace

OpDef rms_norm_op() {
  return {.op = Op::kRmsNorm,
          .name = "rms_norm",
          .inputs = {"x", "weight?"},
          .outputs = {"y"},
          .attrs = attrs_index<NormAttrs>(),
          .infer = infer_norm,
          .cost = cost_rms_norm};
}

OpDef layer_norm_op() {
  return {.op = Op::kLayerNorm,
          .name = "layer_norm",
          .inputs = {"x", "weight", "bias?"},
          .outputs = {"y"},
          .attrs = attrs_index<NormAttrs>(),
          .infer = infer_norm,
          .cost = cost_layer_norm};
}

}  // namespace moe

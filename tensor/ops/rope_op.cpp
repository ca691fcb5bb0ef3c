// Rotary position embedding in two steps: the table of a batch is made once and read by every layer.
#include "tensor/autodiff.h"
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// Row t: cos of the dims/2 angles at positions[t], then their sin, both times attn_factor; angles as attrs.h says.
Status infer_rope_table(const Graph& g, const Node& n, std::vector<Value>& out) {
  const auto& a = std::get<RopeTableAttrs>(n.attrs);
  ShapeRule rule(g, n, out);
  rule.require(a.dims > 0 && a.dims % 2 == 0, "an even number of rotated elements, not dims=" + std::to_string(a.dims));
  rule.require(a.ext_factor == 0 || a.original_ctx > 0, "original_ctx > 0 where ext_factor is not 0");
  rule.let('d', a.dims).let('h', a.dims / 2);
  return rule.in(0, Accept::kI32, "N").in(1, Accept::kF32, "h").out("Nd").status();
}

Cost cost_rope_table(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return c.streaming(2 * c.out_elements());  // angle and cos or sin; counted as one each
}

// In each head, elements [offset, offset + dims) are dims/2 pairs, turned by the table's angles; the others are copied.
// `inverse` turns by the transpose of that matrix: the angles negated, times attn_factor once more.
Status infer_rope(const Graph& g, const Node& n, std::vector<Value>& out) {
  const auto& a = std::get<RopeAttrs>(n.attrs);
  ShapeRule rule(g, n, out);
  rule.require(a.dims > 0 && a.dims % 2 == 0 && a.offset >= 0 && a.offset + a.dims <= a.head_dim,
               "an even number of rotated elements inside of the head: [" + std::to_string(a.offset) + ", " +
                   std::to_string(a.offset + a.dims) + ") of " + std::to_string(a.head_dim));
  rule.in(0, Accept::kF32, "Nn");
  rule.require(!rule.ok() || rule['n'] % a.head_dim == 0, "rows of whole heads of " + std::to_string(a.head_dim));
  return rule.let('d', a.dims).in(1, Accept::kF32, "Nd").out("Nn").status();
}

Cost cost_rope(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const auto& a = std::get<RopeAttrs>(n.attrs);
  const double rotated = c.out_elements() * static_cast<double>(a.dims) / static_cast<double>(a.head_dim);
  return c.streaming(3 * rotated);  // two products and a sum an element
}

Status gradient_rope(GradientBuilder& b, const Node& n) {
  if (b.wants(1)) return Status::Unsupported("of the angles");
  auto a = std::get<RopeAttrs>(n.attrs);
  a.inverse = !a.inverse;
  b.give(0, b.op(Op::kRope, {b.dy(), n.in[1]}, a));
  return Status::Ok();
}

}  // namespace

OpDef rope_table_op() {
  return {.op = Op::kRopeTable,
          .name = "rope_table",
          .inputs = {"positions", "freq_factors?"},
          .outputs = {"table"},
          .attrs = attrs_index<RopeTableAttrs>(),
          .infer = infer_rope_table,
          .cost = cost_rope_table};
}

OpDef rope_op() {
  return {.op = Op::kRope,
          .name = "rope",
          .inputs = {"x", "table"},
          .outputs = {"y"},
          .attrs = attrs_index<RopeAttrs>(),
          .infer = infer_rope,
          .cost = cost_rope,
          .gradient = gradient_rope};
}

}  // namespace moe

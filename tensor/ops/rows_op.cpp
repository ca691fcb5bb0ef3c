// Ops that only move data: embed, slice, concat, select_rows.
#include "tensor/autodiff.h"
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// y[t] = table[ids[t]], decoded. Ids are in [0, V): the caller checks its tokens.
Status infer_embed(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out).in(0, Accept::kWeight, "Vd").in(1, Accept::kI32, "N").out("Nd").status();
}

Cost cost_embed(const Graph& g, const Node& n, const RunShape& run) {  // rows that are looked up, not the table
  const CostView c{g, n, run};
  return {0, c.rows(c.in(1)) * static_cast<double>(dtype_bytes(c.in(0).dtype, c.shape(0).last())) + c.bytes(1), c.out_bytes()};
}

Status gradient_embed(GradientBuilder& b, const Node& n) {
  if (const ValueId grad = b.weight_state(0); grad != kNone) b.op(Op::kEmbedDw, {b.dy(), n.in[1], grad});
  return Status::Ok();
}

// grad[ids[t]] += dy[t], t ascending
Status infer_embed_dw(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out).in(0, Accept::kF32, "Nd").in(1, Accept::kI32, "N").in(2, Accept::kGradient, "Vd").status();
}

Cost cost_embed_dw(const Graph& g, const Node& n, const RunShape& run) {  // rows that are looked up
  const CostView c{g, n, run};
  return {c.elements(0), 2 * c.bytes(0) + c.bytes(1), c.bytes(0)};
}

// Columns [begin, end) of each of `groups` equal parts of a row.
Status infer_slice(const Graph& g, const Node& n, std::vector<Value>& out) {
  const auto& a = std::get<GroupAttrs>(n.attrs);
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kF32, "*n");
  rule.require(a.groups > 0 && 0 <= a.begin && a.begin < a.end, "groups > 0 and 0 <= begin < end");
  rule.require(!rule.ok() || (rule['n'] % a.groups == 0 && a.end <= rule['n'] / a.groups),
               "columns [" + std::to_string(a.begin) + ", " + std::to_string(a.end) + ") of " + std::to_string(a.groups) +
                   " equal parts");
  return rule.let('m', a.groups * (a.end - a.begin)).out("*m").status();
}

Status gradient_slice(GradientBuilder& b, const Node& n) {
  const auto& a = std::get<GroupAttrs>(n.attrs);
  const int64_t width = b.graph().value(n.in[0]).shape.last() / a.groups;
  b.give(0, b.op(Op::kPlace, {b.dy()}, PlaceAttrs{a.groups, a.begin, a.end, width}));
  return Status::Ok();
}

Cost cost_slice(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return {0, c.out_bytes(), c.out_bytes()};
}

// Part j of the result is part j of a, then part j of b; with `shared`, b is one part and every group gets it.
Status infer_concat(const Graph& g, const Node& n, std::vector<Value>& out) {
  const auto& a = std::get<GroupAttrs>(n.attrs);
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kF32, "*n").in(1, Accept::kF32, "*m");
  rule.require(a.groups > 0, "groups > 0");
  rule.require(!rule.ok() || (rule['n'] % a.groups == 0 && (a.shared || rule['m'] % a.groups == 0)),
               "rows of " + std::to_string(a.groups) + " equal parts");
  return rule.let('o', rule['n'] + rule['m'] * (a.shared ? a.groups : 1)).out("*o").status();
}

Status gradient_concat(GradientBuilder& b, const Node& n) {
  const auto& a = std::get<GroupAttrs>(n.attrs);
  const int64_t middle = b.graph().value(n.in[0]).shape.last() / a.groups;
  const int64_t width = b.graph().value(n.out[0]).shape.last() / a.groups;
  if (b.wants(0)) b.give(0, b.op(Op::kSlice, {b.dy()}, GroupAttrs{.groups = a.groups, .begin = 0, .end = middle}));
  if (!b.wants(1)) return Status::Ok();
  const ValueId parts = b.op(Op::kSlice, {b.dy()}, GroupAttrs{.groups = a.groups, .begin = middle, .end = width});
  b.give(1, a.shared ? b.op(Op::kSumGroups, {parts}, GroupAttrs{.groups = a.groups}) : parts);
  return Status::Ok();
}

Cost cost_copy(const Graph& g, const Node& n, const RunShape& run) { return CostView{g, n, run}.streaming(0); }

// y[r] = x[rows[r]]
Status infer_select_rows(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out).in(0, Accept::kF32, "Nn").in(1, Accept::kI32, "M").out("Mn").status();
}

Status gradient_select_rows(GradientBuilder& b, const Node& n) {
  if (!b.graph().value(n.in[0]).shape.per_token()) return Status::Unsupported("of rows that are no tokens");
  b.give(0, b.op(Op::kScatterRows, {b.dy(), n.in[1]}));
  return Status::Ok();
}

Cost cost_select_rows(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return {0, c.out_bytes() + c.bytes(1), c.out_bytes()};
}

}  // namespace

OpDef embed_op() {
  return {.op = Op::kEmbed,
          .name = "embed",
          .inputs = {"table", "ids"},
          .outputs = {"y"},
          .infer = infer_embed,
          .cost = cost_embed,
          .gradient = gradient_embed};
}

OpDef embed_dw_op() {
  return {.op = Op::kEmbedDw,
          .name = "embed_dw",
          .inputs = {"dy", "ids", "grad"},
          .outputs = {},
          .infer = infer_embed_dw,
          .cost = cost_embed_dw};
}

OpDef slice_op() {
  return {.op = Op::kSlice,
          .name = "slice",
          .inputs = {"x"},
          .outputs = {"y"},
          .attrs = attrs_index<GroupAttrs>(),
          .infer = infer_slice,
          .cost = cost_slice,
          .gradient = gradient_slice};
}

OpDef concat_op() {
  return {.op = Op::kConcat,
          .name = "concat",
          .inputs = {"a", "b"},
          .outputs = {"y"},
          .attrs = attrs_index<GroupAttrs>(),
          .infer = infer_concat,
          .cost = cost_copy,
          .gradient = gradient_concat};
}

OpDef select_rows_op() {
  return {.op = Op::kSelectRows,
          .name = "select_rows",
          .inputs = {"x", "rows"},
          .outputs = {"y"},
          .infer = infer_select_rows,
          .cost = cost_select_rows,
          .gradient = gradient_select_rows};
}

}  // namespace moe

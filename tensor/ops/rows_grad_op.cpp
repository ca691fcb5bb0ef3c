// What the movers of data and mul are reversed with: row_dot, place, sum_groups, scatter_rows.
#include <algorithm>

#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// y[r] = Σ_i a[r][i] · b[r][i]
Status infer_row_dot(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out).in(0, Accept::kF32, "*n").in(1, Accept::kF32, "*n").out("*1").status();
}

Cost cost_row_dot(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return c.streaming(2 * c.elements(0));
}

// Part j of dy becomes columns [begin, end) of part j of the result, whose other columns are 0.
Status infer_place(const Graph& g, const Node& n, std::vector<Value>& out) {
  const auto& a = std::get<PlaceAttrs>(n.attrs);
  ShapeRule rule(g, n, out);
  rule.require(a.groups > 0 && 0 <= a.begin && a.begin < a.end && a.end <= a.width, "groups > 0 and 0 <= begin < end <= width");
  rule.let('m', a.groups * (a.end - a.begin)).let('n', a.groups * a.width);
  return rule.in(0, Accept::kF32, "*m").out("*n").status();
}

Cost cost_place(const Graph& g, const Node& n, const RunShape& run) { return CostView{g, n, run}.streaming(0); }

// y[t] = Σ_j part j of x[t], j ascending
Status infer_sum_groups(const Graph& g, const Node& n, std::vector<Value>& out) {
  const auto& a = std::get<GroupAttrs>(n.attrs);
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kF32, "*n");
  rule.require(a.groups > 0 && (!rule.ok() || rule['n'] % a.groups == 0),
               "rows of " + std::to_string(a.groups) + " equal parts");
  return rule.let('m', rule['n'] / std::max<int64_t>(a.groups, 1)).out("*m").status();
}

Cost cost_sum_groups(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return c.streaming(c.elements(0));
}

// y[rows[r]] += dy[r], r ascending, over zeros: a row a token
Status infer_scatter_rows(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out).in(0, Accept::kF32, "Mn").in(1, Accept::kI32, "M").out("Tn").status();
}

Cost cost_scatter_rows(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return c.streaming(c.elements(0));
}

}  // namespace

OpDef row_dot_op() {
  return {.op = Op::kRowDot,
          .name = "row_dot",
          .inputs = {"a", "b"},
          .outputs = {"y"},
          .infer = infer_row_dot,
          .cost = cost_row_dot};
}

OpDef place_op() {
  return {.op = Op::kPlace,
          .name = "place",
          .inputs = {"dy"},
          .outputs = {"dx"},
          .attrs = attrs_index<PlaceAttrs>(),
          .infer = infer_place,
          .cost = cost_place};
}

OpDef sum_groups_op() {
  return {.op = Op::kSumGroups,
          .name = "sum_groups",
          .inputs = {"x"},
          .outputs = {"y"},
          .attrs = attrs_index<GroupAttrs>(),
          .infer = infer_sum_groups,
          .cost = cost_sum_groups};
}

OpDef scatter_rows_op() {
  return {.op = Op::kScatterRows,
          .name = "scatter_rows",
          .inputs = {"dy", "rows"},
          .outputs = {"dx"},
          .infer = infer_scatter_rows,
          .cost = cost_scatter_rows};
}

}  // namespace moe

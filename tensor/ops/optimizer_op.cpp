// Ops of an update of weights: sum_squares, adamw. Their graphs are built by tensor/optim.h.
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// y[0] = Σ x², summed in double over fixed blocks, then rounded.
Status infer_sum_squares(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kGradient, "*");
  rule.require(!rule.ok() || g.value(n.in[0]).shape.is_static(), "a fixed number of elements");
  return rule.out("1").status();
}

Cost cost_sum_squares(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return c.streaming(2 * c.elements(0));
}

// AdamW with decoupled decay (arXiv 1711.05101, algorithm 2, as torch.optim.AdamW reads it: decay is scaled by the rate).
//
//   hyper   0    1   2   3    4             5           6         7
//           rate β1  β2  eps  weight decay  grad scale  1 − β1^t  1 − β2^t
//
//   g = grad scale · grad      m ← β1 · m + (1 − β1) · g      v ← β2 · v + (1 − β2) · g²
//   w ← w − rate · (m / (1 − β1^t) / (√(v / (1 − β2^t)) + eps) + weight decay · w)
//
// copy gets the new w as bfloat16, to nearest even. grad stays as it is.
Status infer_adamw(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  for (const size_t state : {0, 1, 2, 3}) rule.in(state, Accept::kGradient, "*");
  rule.in(4, Accept::kCopy, "*").let('h', kHyperNumbers).in(5, Accept::kF32, "h");
  rule.require(!rule.ok() || g.value(n.in[0]).shape.is_static(), "a fixed number of elements");
  return rule.status();
}

Cost cost_adamw(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  Cost cost = c.streaming(15 * c.elements(0));
  cost.bytes_read -= c.bytes(4);
  cost.bytes_written = c.bytes(0) + c.bytes(2) + c.bytes(3) + c.bytes(4);
  return cost;
}

}  // namespace

OpDef sum_squares_op() {
  return {.op = Op::kSumSquares,
          .name = "sum_squares",
          .inputs = {"x"},
          .outputs = {"y"},
          .infer = infer_sum_squares,
          .cost = cost_sum_squares};
}

OpDef adamw_op() {
  return {.op = Op::kAdamW,
          .name = "adamw",
          .inputs = {"w", "grad", "m", "v", "copy?", "hyper"},
          .outputs = {},
          .infer = infer_adamw,
          .cost = cost_adamw};
}

}  // namespace moe

// Products with the experts that tokens were routed to: moe_linear, weighted_sum and the fused moe_gate_up, moe_down.
//
// ids (T, K) of `route` say which of the E stacked matrices slot s of token t meets; id −1 is a slot without work. Widths are
// runtime numbers: expert e runs the first width[e] of its f hidden channels, so gate and up make that many rows and down reads
// that many columns.
//
//                  rows ≥ rows_used[e], slots of id −1     who may read them
//   moe_linear     written as 0                            anybody
//   moe_gate_up    rows 0, slots hold anything             moe_linear and moe_down with the same ids; rounding to int8 takes
//                                                          in the zeros, not what a wider run left
#include "tensor/autodiff.h"
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// y[t, s] = W_e[:rows_used[e], :cols_used[e]] x + b_e[:rows_used[e]], e = ids[t, s]; x is x[t] or, with slots, x[t, s].
Status infer_moe_linear(const Graph& g, const Node& n, std::vector<Value>& out) {
  const bool slots = g.value(n.in[0]).shape.rank == 3;
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kActivation, slots ? "NKi" : "Ni").in(1, Accept::kI32, "NK").in(2, Accept::kWeight, "Eoi");
  rule.in(3, Accept::kF32, "Eo").in(4, Accept::kI32, "E").in(5, Accept::kI32, "E");
  return rule.out("NKo").status();
}

Cost cost_moe_linear(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const Shape& w = c.shape(2);
  const RoutedWork work(c, c.in(1), w[0]);
  Cost cost;
  cost.flops = work.slots * static_cast<double>(w[1]) * (2 * static_cast<double>(w[2]) + c.has(3));
  cost.bytes_read =
      c.bytes(0) * (c.shape(0).rank == 3 ? work.share : 1) + c.bytes(1) + work.bytes(c.in(2)) + c.bytes(4) + c.bytes(5);
  if (c.has(3)) cost.bytes_read += work.bytes(c.in(3));
  cost.bytes_written = c.out_bytes();
  return cost;
}

// A bias may be trained where the weight is not.
Status gradient_moe_linear(GradientBuilder& b, const Node& n) {
  const ValueId dy = b.dy(), x = n.in[0], ids = n.in[1], w = n.in[2], rows_used = n.in[4], cols_used = n.in[5];
  if (b.wants(0)) {
    const bool slots = b.graph().value(x).shape.rank == 3;
    b.give(0, b.op(Op::kMoeLinearDx, {dy, ids, w, rows_used, cols_used}, MoeGradAttrs{slots}));
  }
  const ValueId grad = b.weight_state(2), grad_bias = b.weight_state(3);
  if (grad == kNone && grad_bias == kNone) return Status::Ok();
  const bool bf16 = b.graph().value(w).dtype == DType::kBF16;
  b.op(Op::kMoeLinearDw, {dy, x, ids, rows_used, cols_used, grad, grad_bias},
       ProductGradAttrs{1, bf16 ? DType::kBF16 : DType::kF32});
  return Status::Ok();
}

// y[t] = Σ_s weights[t, s] · x[t, s] over the slots with an expert, in an order that depends on the token's ids alone.
Status infer_weighted_sum(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out).in(0, Accept::kF32, "NKn").in(1, Accept::kI32, "NK").in(2, Accept::kF32, "NK").out("Nn").status();
}

Cost cost_weighted_sum(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const RoutedWork work(c, c.in(1), c.shape(1).last());
  const double row = static_cast<double>(c.shape(0).last());
  return {2 * work.slots * row, work.slots * row * sizeof(float) + c.bytes(1) + c.bytes(2), c.out_bytes()};
}

Status gradient_weighted_sum(GradientBuilder& b, const Node& n) {
  b.give(0, b.op(Op::kWeightedSumGrad, {n.in[0], n.in[1], n.in[2], b.dy()}));
  b.give(2, b.out(1));
  return Status::Ok();
}

// h[t, s] = glu(G_e x[t] + gate_bias_e, U_e x[t] + up_bias_e), channels [0, width[e]) only; no width: all of them.
// Without `up`, gate is (E, 2f, d): rows [0, f) gate, [f, 2f) up; its bias (E, 2f) likewise.
Status infer_moe_gate_up(const Graph& g, const Node& n, std::vector<Value>& out) {
  const bool merged = n.in[3] == kNone;
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kActivation, "Nd").in(1, Accept::kI32, "NK").in(2, Accept::kWeight, "Egd");
  rule.require(!merged || rule['g'] % 2 == 0, "an even number of rows in a gate that holds up as well");
  rule.require(!merged || n.in[5] == kNone, "no up_bias where there is no up");
  rule.let('f', merged ? rule['g'] / 2 : rule['g']);
  rule.in(3, Accept::kWeight, "Efd").in(4, Accept::kF32, "Eg").in(5, Accept::kF32, "Ef").in(6, Accept::kI32, "E");
  return rule.out("NKf").status();
}

Cost cost_moe_gate_up(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const RoutedWork work(c, c.in(1), c.shape(2)[0]);
  const double channels = work.slots * static_cast<double>(c.out().shape.last());
  const double biases = (c.has(4) ? (c.has(3) ? 1 : 2) : 0) + c.has(5);
  Cost cost;
  cost.flops = channels * (4 * static_cast<double>(c.shape(2)[2]) + biases + kGluFlops);
  cost.bytes_read = c.bytes(0) + c.bytes(1) + c.bytes(6);
  for (const size_t stacked : {2, 3, 4, 5})
    if (c.has(stacked)) cost.bytes_read += work.bytes(c.in(stacked));
  cost.bytes_written = channels * sizeof(float);
  return cost;
}

// A merged gate makes all of its rows here (rows_used counts from the first one): the width is left to the reader.
ValueId expand_moe_gate_up(Graph& g, const Node& n) {
  const ValueId x = n.in[0], ids = n.in[1], gate_w = n.in[2], up_w = n.in[3], width = n.in[6];
  const ValueId rows = up_w == kNone ? kNone : width;
  const ValueId gate = g.add_node(Op::kMoeLinear, {x, ids, gate_w, n.in[4], rows, kNone}, NoAttrs{}, n.layer);
  if (up_w == kNone) return glu_of_merged(g, gate, std::get<GluAttrs>(n.attrs), n.layer);
  const ValueId up = g.add_node(Op::kMoeLinear, {x, ids, up_w, n.in[5], rows, kNone}, NoAttrs{}, n.layer);
  return g.add_node(Op::kGlu, {gate, up}, n.attrs, n.layer);
}

// y[t] = residual[t] + scale · Σ_s weights[t, s] · (W_e[:, :width[e]] h[t, s] + b_e), summed as weighted_sum does.
Status infer_moe_down(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kActivation, "NKf").in(1, Accept::kI32, "NK").in(2, Accept::kF32, "NK").in(3, Accept::kWeight, "Edf");
  rule.in(4, Accept::kF32, "Ed").in(5, Accept::kI32, "E").in(6, Accept::kF32, "Nd");
  return rule.out("Nd").status();
}

Cost cost_moe_down(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const Shape& w = c.shape(3);
  const RoutedWork work(c, c.in(1), w[0]);
  Cost cost;
  cost.flops = work.slots * static_cast<double>(w[1]) * (2 * static_cast<double>(w[2]) + 2 + c.has(4)) +
               c.out_elements() * (c.has(6) + (std::get<ScaleAttrs>(n.attrs).scale != 1));
  cost.bytes_read = c.bytes(0) * work.share + c.bytes(1) + c.bytes(2) + work.bytes(c.in(3)) + c.bytes(5) + c.bytes(6);
  if (c.has(4)) cost.bytes_read += work.bytes(c.in(4));
  cost.bytes_written = c.out_bytes();
  return cost;
}

ValueId expand_moe_down(Graph& g, const Node& n) {
  const ValueId h = n.in[0], ids = n.in[1], weights = n.in[2], width = n.in[5], residual = n.in[6];
  const ValueId slots = g.add_node(Op::kMoeLinear, {h, ids, n.in[3], n.in[4], kNone, width}, NoAttrs{}, n.layer);
  ValueId y = g.add_node(Op::kWeightedSum, {slots, ids, weights}, NoAttrs{}, n.layer);
  if (std::get<ScaleAttrs>(n.attrs).scale != 1) y = g.add_node(Op::kScale, {y}, n.attrs, n.layer);
  if (residual != kNone) y = g.add_node(Op::kAdd, {residual, y}, NoAttrs{}, n.layer);
  return y;
}

}  // namespace

OpDef moe_linear_op() {
  return {.op = Op::kMoeLinear,
          .name = "moe_linear",
          .inputs = {"x", "ids", "w", "bias?", "rows_used?", "cols_used?"},
          .outputs = {"y"},
          .infer = infer_moe_linear,
          .cost = cost_moe_linear,
          .gradient = gradient_moe_linear};
}

OpDef weighted_sum_op() {
  return {.op = Op::kWeightedSum,
          .name = "weighted_sum",
          .inputs = {"x", "ids", "weights"},
          .outputs = {"y"},
          .infer = infer_weighted_sum,
          .cost = cost_weighted_sum,
          .gradient = gradient_weighted_sum};
}

OpDef moe_gate_up_op() {
  return {.op = Op::kMoeGateUp,
          .name = "moe_gate_up",
          .inputs = {"x", "ids", "gate", "up?", "gate_bias?", "up_bias?", "width?"},
          .outputs = {"h"},
          .attrs = attrs_index<GluAttrs>(),
          .infer = infer_moe_gate_up,
          .cost = cost_moe_gate_up,
          .fallback = expand_moe_gate_up};
}

OpDef moe_down_op() {
  return {.op = Op::kMoeDown,
          .name = "moe_down",
          .inputs = {"h", "ids", "weights", "w", "bias?", "width?", "residual?"},
          .outputs = {"y"},
          .attrs = attrs_index<ScaleAttrs>(),
          .infer = infer_moe_down,
          .cost = cost_moe_down,
          .fallback = expand_moe_down};
}

}  // namespace moe

// Products with a weight that every row meets: linear, head_linear and the fused linear_glu.
#include "tensor/autodiff.h"
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// y = residual + scale · (x Wᵀ + bias). Rows of x are tokens, outputs or fixed.
Status infer_linear(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out)
      .in(0, Accept::kActivation, "Ni")
      .in(1, Accept::kWeight, "oi")
      .in(2, Accept::kF32, "o")
      .in(3, Accept::kF32, "No")
      .out("No")
      .status();
}

Cost cost_linear(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const double per_output =
      2 * static_cast<double>(c.shape(1)[1]) + c.has(2) + c.has(3) + (std::get<ScaleAttrs>(n.attrs).scale != 1);
  return c.streaming(c.out_elements() * per_output);
}

// A bias may be trained where the weight is not.
Status gradient_linear(GradientBuilder& b, const Node& n) {
  const ValueId dy = b.dy(), x = n.in[0], w = n.in[1];
  b.give(3, dy);
  if (b.wants(0)) b.give(0, b.op(Op::kLinearDx, {dy, w}, n.attrs));
  const ValueId grad = b.weight_state(1), grad_bias = b.weight_state(2);
  if (grad == kNone && grad_bias == kNone) return Status::Ok();
  const bool bf16 = b.graph().value(w).dtype == DType::kBF16;
  b.op(Op::kLinearDw, {dy, x, grad, grad_bias},
       ProductGradAttrs{std::get<ScaleAttrs>(n.attrs).scale, bf16 ? DType::kBF16 : DType::kF32});
  return Status::Ok();
}

// Head j of x times rows [row_begin, row_begin + rows) of block j of w, or times their transpose:
//   y_j = W_j x_j      x_j (n),    y_j (rows)
//   y_j = W_jᵀ x_j     x_j (rows), y_j (n)       transposed
// It is how latent attention folds the two halves of its key-value up-projection into query and output (DeepSeek-V2 §2.1.2).
Status infer_head_linear(const Graph& g, const Node& n, std::vector<Value>& out) {
  const auto& a = std::get<HeadLinearAttrs>(n.attrs);
  ShapeRule rule(g, n, out);
  rule.require(a.heads > 0 && a.rows > 0 && a.row_begin >= 0 && a.row_begin + a.rows <= a.block,
               "heads > 0 and rows [row_begin, row_begin + rows) inside of the block");
  rule.let('b', a.heads * a.block).in(1, Accept::kWeight, "bn");
  const int64_t stored = rule['n'];
  rule.let('x', a.heads * (a.transposed ? a.rows : stored)).let('y', a.heads * (a.transposed ? stored : a.rows));
  return rule.in(0, Accept::kActivation, "Nx").out("Ny").status();
}

Cost cost_head_linear(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const auto& a = std::get<HeadLinearAttrs>(n.attrs);
  const double used = static_cast<double>(a.rows) / static_cast<double>(a.block);  // share of w that is read
  const double weights = static_cast<double>(a.heads * a.rows * c.shape(1)[1]);
  return {2 * c.rows(c.in(0)) * weights, c.bytes(0) + c.bytes(1) * used, c.out_bytes()};
}

// y = glu(x Gᵀ + gate_bias, x Uᵀ + up_bias). Without `up`, gate is (2f, d): rows [0, f) gate, [f, 2f) up; its bias likewise.
Status infer_linear_glu(const Graph& g, const Node& n, std::vector<Value>& out) {
  const bool merged = n.in[2] == kNone;
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kActivation, "Nd").in(1, Accept::kWeight, "gd");
  rule.require(!merged || rule['g'] % 2 == 0, "an even number of rows in a gate that holds up as well");
  rule.require(!merged || n.in[4] == kNone, "no up_bias where there is no up");
  rule.let('f', merged ? rule['g'] / 2 : rule['g']);
  return rule.in(2, Accept::kWeight, "fd").in(3, Accept::kF32, "g").in(4, Accept::kF32, "f").out("Nf").status();
}

Cost cost_linear_glu(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const double biases = (c.has(3) ? (c.has(2) ? 1 : 2) : 0) + c.has(4);
  return c.streaming(c.out_elements() * (4 * static_cast<double>(c.shape(1)[1]) + biases + kGluFlops));
}

ValueId expand_linear_glu(Graph& g, const Node& n) {
  const ValueId x = n.in[0], gate_w = n.in[1], up_w = n.in[2];
  const ValueId gate = g.add_node(Op::kLinear, {x, gate_w, n.in[3]}, ScaleAttrs{}, n.layer);
  if (up_w == kNone) return glu_of_merged(g, gate, std::get<GluAttrs>(n.attrs), n.layer);
  const ValueId up = g.add_node(Op::kLinear, {x, up_w, n.in[4]}, ScaleAttrs{}, n.layer);
  return g.add_node(Op::kGlu, {gate, up}, n.attrs, n.layer);
}

}  // namespace

OpDef linear_op() {
  return {.op = Op::kLinear,
          .name = "linear",
          .inputs = {"x", "w", "bias?", "residual?"},
          .outputs = {"y"},
          .attrs = attrs_index<ScaleAttrs>(),
          .infer = infer_linear,
          .cost = cost_linear,
          .gradient = gradient_linear};
}

OpDef head_linear_op() {
  return {.op = Op::kHeadLinear,
          .name = "head_linear",
          .inputs = {"x", "w"},
          .outputs = {"y"},
          .attrs = attrs_index<HeadLinearAttrs>(),
          .infer = infer_head_linear,
          .cost = cost_head_linear};
}

OpDef linear_glu_op() {
  return {.op = Op::kLinearGlu,
          .name = "linear_glu",
          .inputs = {"x", "gate", "up?", "gate_bias?", "up_bias?"},
          .outputs = {"h"},
          .attrs = attrs_index<GluAttrs>(),
          .infer = infer_linear_glu,
          .cost = cost_linear_glu,
          .fallback = expand_linear_glu};
}

}  // namespace moe

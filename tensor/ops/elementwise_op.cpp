// Ops on elements and rows of float32: softmax, activations, glu, add, mul, scale; and quantize_act.
#include "tensor/autodiff.h"
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

Status infer_same(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out).in(0, Accept::kF32, "*").out("*").status();
}

Status infer_softmax(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out).in(0, Accept::kF32, "Nn").out("Nn").status();
}

// dx = y · (dy − Σ y · dy), the sum over a row
Status infer_softmax_grad(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out).in(0, Accept::kF32, "Nn").in(1, Accept::kF32, "Nn").out("Nn").status();
}

Status infer_glu(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out).in(0, Accept::kF32, "*n").in(1, Accept::kF32, "*n").out("*n").status();
}

// b: a's shape, one row for all rows of a, or (mul) one number a row.
Status infer_binary(const Graph& g, const Node& n, std::vector<Value>& out) {
  const Shape &a = g.value(n.in[0]).shape, &b = g.value(n.in[1]).shape;
  const char* pattern = "*n";
  if (b.rank == 1 && a.rank > 1)
    pattern = "n";
  else if (n.op == Op::kMul && b.rank > 1 && b.last() == 1)
    pattern = "*1";
  return ShapeRule(g, n, out).in(0, Accept::kF32, "*n").in(1, Accept::kF32, pattern).out("*n").status();
}

// Rows rounded to what a backend multiplies: int8 blocks of 32 with a scale each (a8), or bfloat16 to nearest even. Inserted by
// backends; blocks of an a8 row are independent, so unused channels of routed hidden rows (moe_gate_up) may hold anything as
// long as widths are multiples of 32.
Status infer_quantize_act(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kF32, "*n");
  const DType to = std::get<QuantizeActAttrs>(n.attrs).to;
  rule.require(to == DType::kA8 || to == DType::kBF16, std::string("a8 or bf16, not ") + traits(to).name);
  const int64_t block = traits(to).block_elements;
  rule.require(rule['n'] % block == 0, "rows that are a multiple of " + std::to_string(block));
  return rule.out("*n", to).status();
}

template <int kFlops>
Cost cost_elements(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return c.streaming(kFlops * c.out_elements());
}

OpDef unary(Op op, const char* name, Cost (*cost)(const Graph&, const Node&, const RunShape&),
            Status (*gradient)(GradientBuilder&, const Node&) = nullptr) {
  return {.op = op, .name = name, .inputs = {"x"}, .outputs = {"y"}, .infer = infer_same, .cost = cost, .gradient = gradient};
}

OpDef binary(Op op, const char* name) {
  return {.op = op, .name = name, .inputs = {"a", "b"}, .outputs = {"y"}, .infer = infer_binary, .cost = cost_elements<1>};
}

Status gradient_add(GradientBuilder& b, const Node& n) {
  const Graph& g = b.graph();
  if (b.wants(1) && !(g.value(n.in[0]).shape == g.value(n.in[1]).shape))
    return Status::Unsupported("of a row that is added to all others");
  b.give(0, b.dy());
  b.give(1, b.dy());
  return Status::Ok();
}

Status gradient_softmax(GradientBuilder& b, const Node& n) {
  b.give(0, b.op(Op::kSoftmaxGrad, {n.out[0], b.dy()}));
  return Status::Ok();
}

// b may be one number a row.
Status gradient_mul(GradientBuilder& b, const Node& n) {
  const Shape &x = b.graph().value(n.in[0]).shape, &y = b.graph().value(n.in[1]).shape;
  const bool one_a_row = !(x == y) && y.rank == x.rank;
  if (b.wants(1) && !(x == y) && !one_a_row) return Status::Unsupported("of a row that multiplies all others");
  if (b.wants(0)) b.give(0, b.op(Op::kMul, {b.dy(), n.in[1]}));
  if (b.wants(1)) b.give(1, b.op(one_a_row ? Op::kRowDot : Op::kMul, {b.dy(), n.in[0]}));
  return Status::Ok();
}

Status gradient_scale(GradientBuilder& b, const Node& n) {
  b.give(0, b.op(Op::kScale, {b.dy()}, n.attrs));
  return Status::Ok();
}

template <Op kGrad>
Status gradient_activation(GradientBuilder& b, const Node& n) {
  b.give(0, b.op(kGrad, {n.in[0], b.dy()}));
  return Status::Ok();
}

Status gradient_glu(GradientBuilder& b, const Node& n) {
  b.give(0, b.op(Op::kGluGrad, {n.in[0], n.in[1], b.dy()}, n.attrs));
  b.give(1, b.out(1));
  return Status::Ok();
}

}  // namespace

// exp, tanh and the like count as one operation.
OpDef silu_op() { return unary(Op::kSilu, "silu", cost_elements<4>, gradient_activation<Op::kSiluGrad>); }
OpDef gelu_op() {
  return unary(Op::kGelu, "gelu", cost_elements<8>, gradient_activation<Op::kGeluGrad>);
}  // 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
OpDef sigmoid_op() { return unary(Op::kSigmoid, "sigmoid", cost_elements<3>, gradient_activation<Op::kSigmoidGrad>); }
OpDef add_op() {
  OpDef def = binary(Op::kAdd, "add");
  def.gradient = gradient_add;
  return def;
}
OpDef mul_op() {
  OpDef def = binary(Op::kMul, "mul");
  def.gradient = gradient_mul;
  return def;
}

OpDef softmax_op() {
  OpDef def = unary(Op::kSoftmax, "softmax", cost_elements<5>);  // max, subtract, exp, sum, divide
  def.infer = infer_softmax;
  def.gradient = gradient_softmax;
  return def;
}

OpDef softmax_grad_op() {
  return {.op = Op::kSoftmaxGrad,
          .name = "softmax_grad",
          .inputs = {"y", "dy"},
          .outputs = {"dx"},
          .infer = infer_softmax_grad,
          .cost = cost_elements<4>};
}

OpDef scale_op() {
  OpDef def = unary(Op::kScale, "scale", cost_elements<1>);
  def.attrs = attrs_index<ScaleAttrs>();
  def.gradient = gradient_scale;
  return def;
}

OpDef glu_op() {
  return {.op = Op::kGlu,
          .name = "glu",
          .inputs = {"gate", "up"},
          .outputs = {"h"},
          .attrs = attrs_index<GluAttrs>(),
          .infer = infer_glu,
          .cost = cost_elements<kGluFlops>,
          .gradient = gradient_glu};
}

OpDef quantize_act_op() {
  OpDef def = unary(Op::kQuantizeAct, "quantize_act", cost_elements<4>);  // max, scale, round, sum
  def.attrs = attrs_index<QuantizeActAttrs>();
  def.infer = infer_quantize_act;
  return def;
}

}  // namespace moe

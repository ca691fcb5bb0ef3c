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

OpDef unary(Op op, const char* name, Cost (*cost)(const Graph&, const Node&, const RunShape&)) {
  return {.op = op, .name = name, .inputs = {"x"}, .outputs = {"y"}, .infer = infer_same, .cost = cost};
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

Status gradient_scale(GradientBuilder& b, const Node& n) {
  b.give(0, b.op(Op::kScale, {b.dy()}, n.attrs));
  return Status::Ok();
}

}  // namespace

// exp, tanh and the like count as one operation.
OpDef silu_op() { return unary(Op::kSilu, "silu", cost_elements<4>); }
OpDef gelu_op() { return unary(Op::kGelu, "gelu", cost_elements<8>); }  // 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
OpDef sigmoid_op() { return unary(Op::kSigmoid, "sigmoid", cost_elements<3>); }
OpDef add_op() {
  OpDef def = binary(Op::kAdd, "add");
  def.gradient = gradient_add;
  return def;
}
OpDef mul_op() { return binary(Op::kMul, "mul"); }

OpDef softmax_op() {
  OpDef def = unary(Op::kSoftmax, "softmax", cost_elements<5>);  // max, subtract, exp, sum, divide
  def.infer = infer_softmax;
  return def;
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
          .cost = cost_elements<kGluFlops>};
}

OpDef quantize_act_op() {
  OpDef def = unary(Op::kQuantizeAct, "quantize_act", cost_elements<4>);  // max, scale, round, sum
  def.attrs = attrs_index<QuantizeActAttrs>();
  def.infer = infer_quantize_act;
  return def;
}

}  // namespace moe

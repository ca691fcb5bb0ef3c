// Reverse passes of the activations: silu_grad, gelu_grad, sigmoid_grad, glu_grad. They take what the forward op took, not what
// it made: no activation needs to be kept beside its input.
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// dx = dy · f'(x), element by element
Status infer_activation_grad(const Graph& g, const Node& n, std::vector<Value>& out) {
  return ShapeRule(g, n, out).in(0, Accept::kF32, "*n").in(1, Accept::kF32, "*n").out("*n").status();
}

// Of h = unit(gate) · up, see GluAttrs: dgate = dh · up · unit'(gate), dup = dh · unit(gate). In the clamped variant an input
// outside of its bounds gets 0, one on a bound what the inside gets.
Status infer_glu_grad(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  for (const size_t i : {0, 1, 2}) rule.in(i, Accept::kF32, "*n");
  return rule.out("*n").out("*n").status();
}

template <int kFlops>
Cost cost_elements(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return c.streaming(kFlops * c.out_elements());
}

OpDef activation_grad(Op op, const char* name, Cost (*cost)(const Graph&, const Node&, const RunShape&)) {
  return {.op = op, .name = name, .inputs = {"x", "dy"}, .outputs = {"dx"}, .infer = infer_activation_grad, .cost = cost};
}

}  // namespace

OpDef silu_grad_op() { return activation_grad(Op::kSiluGrad, "silu_grad", cost_elements<7>); }
OpDef gelu_grad_op() { return activation_grad(Op::kGeluGrad, "gelu_grad", cost_elements<14>); }
OpDef sigmoid_grad_op() { return activation_grad(Op::kSigmoidGrad, "sigmoid_grad", cost_elements<6>); }

OpDef glu_grad_op() {
  return {.op = Op::kGluGrad,
          .name = "glu_grad",
          .inputs = {"gate", "up", "dh"},
          .outputs = {"dgate", "dup"},
          .attrs = attrs_index<GluAttrs>(),
          .infer = infer_glu_grad,
          .cost = cost_elements<kGluFlops + 6>};
}

}  // namespace moe

// The loss of a language model: the head's product, softmax and cross entropy in one op, which never holds all logits at once.
#include "tensor/autodiff.h"
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// x (N, d), w (V, d), targets i32 (N), each in [0, V) or −1: none
// → loss (N): −log softmax(z)[target] with z = softcap(logit_scale · W x); 0 without a target, where x is not looked at.
constexpr int64_t kMix = 4;
constexpr int kRowFlops = 5;  // an element of a row of logits: max, subtract, exp, sum, divide

void require_attrs(ShapeRule& rule, const CrossEntropyAttrs& a) {
  rule.require(a.softcap >= 0 && a.teacher_softcap >= 0, "softcap >= 0");
  rule.require(a.round == DType::kF32 || a.round == DType::kBF16, "round to be f32 or bf16");
}

Status infer_cross_entropy(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  require_attrs(rule, std::get<CrossEntropyAttrs>(n.attrs));
  return rule.in(0, Accept::kF32, "Nd").in(1, Accept::kWeight, "Vd").in(2, Accept::kI32, "N").out("N").status();
}

Cost cost_cross_entropy(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const double logits = c.rows(c.in(0)) * static_cast<double>(c.shape(1)[0]);
  return c.streaming(logits * (2 * static_cast<double>(c.shape(1).last()) + kRowFlops));
}

Status gradient_cross_entropy(GradientBuilder& b, const Node& n) {
  const ValueId grad_w = b.weight_state(1);
  b.op(Op::kCrossEntropyGrad, {n.in[0], n.in[1], n.in[2], b.dy(), kNone, kNone, kNone, grad_w}, n.attrs);
  b.give(0, b.graph().nodes.back().out[2]);
  return Status::Ok();
}

// The gradient of L = Σ_r row_weight_r · ((1 − α) · loss_r + α · τ² · kl_r), with mix = {α, τ, 0, 0}:
//   loss  cross entropy, as above
//   kl    KL(softmax(z'/τ) ‖ softmax(z/τ)), z' the teacher's logits, of teacher_x (N, c) and teacher_w (V, c) by the teacher's
//         attributes (Hinton, Vinyals and Dean, arXiv 1503.02531 §2); 0 without a teacher, whose α is then 0 and τ 1
// → loss (N), kl (N), dx (N, d) = dL/dx; grad_w += dL/dW, rows ascending.
// Rows without a target or with row_weight 0 contribute nothing: loss, kl and dx are 0, and x is not looked at.
Status infer_cross_entropy_grad(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  require_attrs(rule, std::get<CrossEntropyAttrs>(n.attrs));
  const bool teacher = n.in[4] != kNone;
  rule.require(teacher == (n.in[5] != kNone) && (!teacher || n.in[6] != kNone),
               "teacher_x, teacher_w and mix, or none of them");
  rule.let('M', kMix);
  rule.in(0, Accept::kF32, "Nd").in(1, Accept::kWeight, "Vd").in(2, Accept::kI32, "N").in(3, Accept::kF32, "N");
  rule.in(4, Accept::kF32, "Nc").in(5, Accept::kWeight, "Vc").in(6, Accept::kF32, "M").in(7, Accept::kGradient, "Vd");
  return rule.out("N").out("N").out("Nd").status();
}

Cost cost_cross_entropy_grad(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const double logits = c.rows(c.in(0)) * static_cast<double>(c.shape(1)[0]);
  const double products =
      (c.has(7) ? 3 : 2) * static_cast<double>(c.shape(1).last()) + (c.has(5) ? static_cast<double>(c.shape(5).last()) : 0);
  Cost cost = c.streaming(logits * (2 * products + (c.has(5) ? 4 : 2) * kRowFlops));
  cost.bytes_written += c.bytes(7);
  return cost;
}

}  // namespace

OpDef cross_entropy_op() {
  return {.op = Op::kCrossEntropy,
          .name = "cross_entropy",
          .inputs = {"x", "w", "targets"},
          .outputs = {"loss"},
          .attrs = attrs_index<CrossEntropyAttrs>(),
          .infer = infer_cross_entropy,
          .cost = cost_cross_entropy,
          .gradient = gradient_cross_entropy};
}

OpDef cross_entropy_grad_op() {
  return {.op = Op::kCrossEntropyGrad,
          .name = "cross_entropy_grad",
          .inputs = {"x", "w", "targets", "row_weight", "teacher_x?", "teacher_w?", "mix?", "grad_w?"},
          .outputs = {"loss", "kl", "dx"},
          .attrs = attrs_index<CrossEntropyAttrs>(),
          .infer = infer_cross_entropy_grad,
          .cost = cost_cross_entropy_grad};
}

}  // namespace moe

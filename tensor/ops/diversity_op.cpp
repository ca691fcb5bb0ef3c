// The loss that keeps experts apart: diversity_grad. Its graph is built by tensor/optim.h.
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// w (E, o, i), u_e = w_e / |w_e| over all elements of an expert, 0 where |w_e| = 0:
//
//   loss (1) = mean over the pairs e ≠ f of (u_e · u_f)²   0 for a single expert
//   grad (E, o, i) += strength · dloss/dw,                 nothing where |w_e| = 0
//
//   dloss/dw_e = 4 / (E (E − 1)) · (Σ_{f≠e} c_ef u_f − Σ_{f≠e} c_ef² u_e) / |w_e|,   c_ef = u_e · u_f
//
// c is summed in double over fixed blocks. strength 0: grad is not touched.
Status infer_diversity_grad(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  rule.in(0, Accept::kGradient, "Eoi").in(1, Accept::kGradient, "Eoi").in(2, Accept::kF32, "1");
  return rule.out("1").status();
}

Cost cost_diversity_grad(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  const double product = 2 * c.elements(0) * static_cast<double>(c.shape(0)[0]);
  Cost cost = c.streaming(product);
  if (!c.has(1)) return cost;
  cost.flops += product;
  cost.bytes_read += c.bytes(0), cost.bytes_written += c.bytes(1);
  return cost;
}

}  // namespace

OpDef diversity_grad_op() {
  return {.op = Op::kDiversityGrad,
          .name = "diversity_grad",
          .inputs = {"w", "grad?", "strength"},
          .outputs = {"loss"},
          .infer = infer_diversity_grad,
          .cost = cost_diversity_grad};
}

}  // namespace moe

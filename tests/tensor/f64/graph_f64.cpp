#include "tests/tensor/f64/graph_f64.h"

#include <doctest/doctest.h>

namespace moe::test {
namespace {

struct Row {
  Op op;
  void (*f)(const Op64&);
};

constexpr Row kRows[] = {
    {Op::kEmbed, embed_f64},
    {Op::kEmbedDw, embed_dw_f64},
    {Op::kLinear, linear_f64},
    {Op::kAdd, add_f64},
    {Op::kScale, scale_f64},
    {Op::kCrossEntropy, cross_entropy_f64},
    {Op::kCrossEntropyGrad, cross_entropy_grad_f64},
    {Op::kRmsNorm, rms_norm_f64},
    {Op::kRmsNormGrad, rms_norm_grad_f64},
    {Op::kLayerNorm, layer_norm_f64},
    {Op::kLayerNormGrad, layer_norm_grad_f64},
    {Op::kSoftmax, softmax_f64},
    {Op::kSoftmaxGrad, softmax_grad_f64},
    {Op::kRopeTable, rope_table_f64},
    {Op::kRope, rope_f64},
    {Op::kAttention, attention_f64},
    {Op::kAttentionGrad, attention_grad_f64},
    {Op::kRoute, route_f64},
    {Op::kRouteGrad, route_grad_f64},
    {Op::kDropExperts, drop_experts_f64},
    {Op::kLimitExperts, limit_experts_f64},
    {Op::kMul, mul_f64},
    {Op::kSlice, slice_f64},
    {Op::kConcat, concat_f64},
    {Op::kSelectRows, select_rows_f64},
    {Op::kRowDot, row_dot_f64},
    {Op::kPlace, place_f64},
    {Op::kSumGroups, sum_groups_f64},
    {Op::kScatterRows, scatter_rows_f64},
    {Op::kSumSquares, sum_squares_f64},
    {Op::kAdamW, adamw_f64},
    {Op::kDiversityGrad, diversity_grad_f64},
    {Op::kLinearDx, linear_dx_f64},
    {Op::kLinearDw, linear_dw_f64},
    {Op::kSilu, silu_f64},
    {Op::kGelu, gelu_f64},
    {Op::kSigmoid, sigmoid_f64},
    {Op::kGlu, glu_f64},
    {Op::kSiluGrad, silu_grad_f64},
    {Op::kGeluGrad, gelu_grad_f64},
    {Op::kSigmoidGrad, sigmoid_grad_f64},
    {Op::kGluGrad, glu_grad_f64},
    {Op::kWeightedSum, weighted_sum_f64},
    {Op::kWeightedSumGrad, weighted_sum_grad_f64},
    {Op::kMoeLinear, moe_linear_f64},
    {Op::kMoeLinearDx, moe_linear_dx_f64},
    {Op::kMoeLinearDw, moe_linear_dw_f64},
};

}  // namespace

Shape Op64::shape(ValueId id) const {
  Shape s = g_.value(id).shape;
  if (s.per_token()) s.dim[0] = run_.n_tokens;
  if (s.per_output()) s.dim[0] = run_.n_outputs;
  return s;
}

Doubles& Op64::out(size_t i) const {
  Doubles& values = values_[n_.out[i]];
  values.assign(static_cast<size_t>(shape(n_.out[i]).elements()), 0.0);
  return values;
}

void run_f64(const Graph& g, const RunShape& run, Values64& values) {
  for (const Node& n : g.nodes) {
    const Op64 op(g, n, run, values);
    for (size_t i = 0; i < n.in.size(); ++i) {
      if (!op.has(i)) continue;
      REQUIRE_MESSAGE(values.count(n.in[i]) == 1, op_name(n.op), ": no value for input ", i, " '", g.value(n.in[i]).name, "'");
      REQUIRE_MESSAGE(static_cast<int64_t>(op.in(i).size()) == op.in_shape(i).elements(), op_name(n.op), ": input ", i);
    }
    bool done = false;
    for (const Row& row : kRows)
      if (row.op == n.op) row.f(op), done = true;
    REQUIRE_MESSAGE(done, "no float64 reference for op ", op_name(n.op));
  }
}

}  // namespace moe::test

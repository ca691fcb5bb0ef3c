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

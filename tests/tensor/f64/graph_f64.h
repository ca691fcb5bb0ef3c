// Graphs in double precision: every op as its comment in tensor/ops/ says it, as plainly as it can be written. Gradients are
// checked against differences of these, and backends' kernels against the rest.
#pragma once

#include <map>
#include <vector>

#include "tensor/graph.h"

namespace moe::test {

using Doubles = std::vector<double>;

// Values of a graph by id, ids of experts and tokens as numbers too. Weights, inputs and states go in; a run adds what nodes
// make and updates states.
using Values64 = std::map<ValueId, Doubles>;

// What the reference of one op sees.
class Op64 {
 public:
  Op64(const Graph& g, const Node& n, const RunShape& run, Values64& values) : g_(g), n_(n), run_(run), values_(values) {}

  bool has(size_t i) const { return i < n_.in.size() && n_.in[i] != kNone; }
  Doubles& in(size_t i) const { return values_.at(n_.in[i]); }  // states are written through it
  Doubles& out(size_t i = 0) const;                             // zeros of the output's size
  Shape in_shape(size_t i) const { return shape(n_.in[i]); }    // with the rows of this run
  Shape out_shape(size_t i = 0) const { return shape(n_.out[i]); }
  int64_t in_last(size_t i) const { return in_shape(i).last(); }
  int64_t in_rows(size_t i) const { return in_shape(i).elements() / in_last(i); }
  template <class A>
  const A& attrs() const {
    return std::get<A>(n_.attrs);
  }

 private:
  Shape shape(ValueId id) const;
  const Graph& g_;
  const Node& n_;
  const RunShape& run_;
  Values64& values_;
};

// Runs all nodes in order. Fails the test where an op has no reference (fused ones: expand_fused() first) or a value is
// missing.
void run_f64(const Graph& g, const RunShape& run, Values64& values);

// One function an op, in the file of its family; rows of the table in graph_f64.cpp.
void embed_f64(const Op64& op);
void embed_dw_f64(const Op64& op);
void linear_f64(const Op64& op);
void linear_dx_f64(const Op64& op);
void linear_dw_f64(const Op64& op);
void add_f64(const Op64& op);
void scale_f64(const Op64& op);
void cross_entropy_f64(const Op64& op);
void cross_entropy_grad_f64(const Op64& op);
void rms_norm_f64(const Op64& op);
void rms_norm_grad_f64(const Op64& op);
void layer_norm_f64(const Op64& op);
void layer_norm_grad_f64(const Op64& op);
void softmax_f64(const Op64& op);
void softmax_grad_f64(const Op64& op);
void rope_table_f64(const Op64& op);
void rope_f64(const Op64& op);
void attention_f64(const Op64& op);
void attention_grad_f64(const Op64& op);
void route_f64(const Op64& op);
void route_grad_f64(const Op64& op);
void drop_experts_f64(const Op64& op);
void limit_experts_f64(const Op64& op);
void mul_f64(const Op64& op);
void slice_f64(const Op64& op);
void concat_f64(const Op64& op);
void select_rows_f64(const Op64& op);
void row_dot_f64(const Op64& op);
void place_f64(const Op64& op);
void sum_groups_f64(const Op64& op);
void scatter_rows_f64(const Op64& op);
void sum_squares_f64(const Op64& op);
void adamw_f64(const Op64& op);
void diversity_grad_f64(const Op64& op);
void silu_f64(const Op64& op);
void gelu_f64(const Op64& op);
void sigmoid_f64(const Op64& op);
void glu_f64(const Op64& op);
void silu_grad_f64(const Op64& op);
void gelu_grad_f64(const Op64& op);
void sigmoid_grad_f64(const Op64& op);
void glu_grad_f64(const Op64& op);
void weighted_sum_f64(const Op64& op);
void weighted_sum_grad_f64(const Op64& op);
void moe_linear_f64(const Op64& op);
void moe_linear_dx_f64(const Op64& op);
void moe_linear_dw_f64(const Op64& op);

}  // namespace moe::test

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
void add_f64(const Op64& op);
void scale_f64(const Op64& op);
void cross_entropy_f64(const Op64& op);
void cross_entropy_grad_f64(const Op64& op);

}  // namespace moe::test

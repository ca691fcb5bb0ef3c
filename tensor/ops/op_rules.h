// The words that shape rules and costs in this folder are written in.
#pragma once

#include <array>
#include <string>

#include "tensor/graph.h"

namespace moe {

// Element types an input may have.
enum class Accept {
  kF32,
  kActivation,  // f32, or bf16 or a8 where the backend rounded it
  kWeight,      // any format with a codec
  kCache,       // f32, f16, q8_0
  kI32,
  kI8,
  kGradient,  // a state of f32 that is added to or updated
  kCopy,      // a state of bf16 that is overwritten
};

// Checks the inputs of a node against patterns of extents and makes its outputs. A pattern has one letter an extent:
//
//   T, R      the symbolic extents
//   other     any extent, the same wherever the letter comes up again
//   1         one
//   * first   any number of outer extents, the same wherever * comes up again
//
//   return ShapeRule(g, node, out).in(0, Accept::kActivation, "Ni").in(1, Accept::kWeight, "oi").out("No").status();
//
// The first mismatch is kept and everything after it ignored. Absent optional inputs match.
class ShapeRule {
 public:
  ShapeRule(const Graph& g, const Node& node, std::vector<Value>& out);

  ShapeRule& let(char letter, int64_t extent);
  ShapeRule& in(size_t i, Accept type, const char* pattern);
  // A condition on attributes or extents that patterns cannot say; `wanted` completes "<op>: wanted …".
  ShapeRule& require(bool condition, const std::string& wanted);
  ShapeRule& out(const char* pattern, DType dtype = DType::kF32);

  int64_t operator[](char letter) const;  // a bound letter; 1 after an error, so that rules may divide by it
  bool ok() const { return status_.ok(); }
  Status status() const { return status_; }

 private:
  bool match(const Shape& shape, const char* pattern);
  std::string expand(const char* pattern) const;
  std::string all_inputs() const;

  const Graph& g_;
  const Node& node_;
  std::vector<Value>& out_;
  std::array<int64_t, 128> extent_{};
  std::array<bool, 128> bound_{};
  bool outer_bound_ = false;
  Shape outer_;  // what * stands for
  Status status_;
};

// Bytes and elements of a value in a run.
double value_elements(const Value& v, const RunShape& run);
double value_traffic(const Value& v, const RunShape& run);

// Inputs and extents of one node in one run, for cost functions.
struct CostView {
  const Graph& g;
  const Node& node;
  const RunShape& run;

  bool has(size_t i) const { return node.in[i] != kNone; }
  const Value& in(size_t i) const { return g.value(node.in[i]); }
  const Value& out(size_t i = 0) const { return g.value(node.out[i]); }
  const Shape& shape(size_t i) const { return in(i).shape; }
  double rows(const Value& v) const;                                      // of the outermost extent
  double elements(size_t i) const { return value_elements(in(i), run); }  // of an input
  double bytes(size_t i) const { return has(i) ? value_traffic(in(i), run) : 0; }
  double out_elements(size_t i = 0) const { return value_elements(out(i), run); }
  double out_bytes() const;  // of all outputs

  // Every present input read once, every output written once.
  Cost streaming(double flops) const;
};

// What T tokens with k experts each touch. Tokens are taken to choose independently and all experts to be equally likely, so an
// expert is missed by all of them with probability (1 − k/E)^T.
struct RoutedWork {
  // ids (T, K): k is run.k_mean where that is given, else K.
  RoutedWork(const CostView& c, const Value& ids, int64_t n_experts);
  double slots;    // with an expert: T · k
  double share;    // of all slots: k / K
  double experts;  // distinct ones, at most n_experts
  double n_experts;
  // Of a stacked weight or bias (E, …): the experts that are read.
  double bytes(const Value& stacked) const;
};

inline constexpr int64_t kHyperNumbers = 8;  // of adamw

inline constexpr int kGluFlops = 5;  // exp, add, divide, two products

// glu of the halves [0, f) and [f, 2f) of a row that holds gate and up: two slices and a glu.
ValueId glu_of_merged(Graph& g, ValueId merged, const GluAttrs& attrs, int layer);

// One OpDef an op, each in the file of its family.
#define MOE_OP(Enum, name) OpDef name##_op();
#include "tensor/ops.def"

}  // namespace moe

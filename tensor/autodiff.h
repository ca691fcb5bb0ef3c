// The reverse pass of a graph, as more ops of the same graph: what plans, prices, dumps and runs a forward pass does the same
// for its gradient.
//
//   forward   x ──op──► y                  values keep their ids; ops that fuse.h made must be expanded before
//   reverse   dx ◄──op's gradient── dy     appended behind it, in the order that sums need them
//
// Gradients of activations are temps. Those of weights are float32 states, "grad.<weight>", that ops add to: a batch in several
// runs accumulates by itself, a weight that two ops read (a tied embedding) gets both, and experts without tokens get nothing.
// Whoever runs the graph binds them and sets them to zero.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <vector>

#include "tensor/graph.h"

namespace moe {

// Where the reverse pass begins: dL/dy, a value of the same shape, of a value y of the forward pass.
struct GradientSeed {
  ValueId y = kNone, dy = kNone;
};

struct WeightGradient {
  ValueId weight = kNone, grad = kNone;
};

// Appends the reverse pass to g. `trains` says which weights get a gradient; nothing is computed that none of them needs.
// Returns what it made states for, in the order of their first use in the reverse pass.
// kUnsupported, naming op and value, where an op on the way has no gradient (fused ones, latent attention); kInvalidArgument
// for seeds of another shape or a trained weight that is neither float32 nor bfloat16.
Result<std::vector<WeightGradient>> differentiate(Graph& g, std::span<const GradientSeed> seeds,
                                                  const std::function<bool(const Value& weight)>& trains);

// The state "grad.<weight>" of the weight, made where the graph has none yet: for ops that are in the graph before
// differentiate(), which adds to the same one.
ValueId gradient_state(Graph& g, ValueId weight);

// What an op's gradient function sees of the pass: OpDef::gradient(builder, node) reads gradients of the node's outputs and
// gives those of its inputs.
class GradientBuilder {
 public:
  GradientBuilder(Graph& g, const std::function<bool(const Value&)>& trains);

  Graph& graph() { return g_; }

  // dL/d(out[i]) of the node at hand; kNone when nothing depends on it. At least one output has one.
  ValueId dy(size_t i = 0) const { return dy_[i]; }

  // Whether somebody wants dL/d(in[i]). False for absent inputs.
  bool wants(size_t i) const { return node_->in[i] != kNone && needed_[static_cast<size_t>(node_->in[i])]; }

  // dL/d(in[i]) of an activation, or one summand of it: several are added up. Ignored where nobody wants it.
  void give(size_t i, ValueId gradient);

  // The state that dL/d(in[i]) of a weight is added to; kNone where it is not trained or the input is absent.
  ValueId weight_state(size_t i);

  // Appends an op for the node at hand, in its layer, and returns its first output; the others are out(1), ….
  ValueId op(Op op, std::vector<ValueId> in, Attrs attrs = NoAttrs{}) {
    return g_.add_node(op, std::move(in), attrs, node_->layer);
  }
  ValueId out(size_t i) const { return g_.nodes.back().out[i]; }  // of the op appended last

 private:
  friend Result<std::vector<WeightGradient>> differentiate(Graph&, std::span<const GradientSeed>,
                                                           const std::function<bool(const Value&)>&);
  void mark_needed(size_t n_nodes);
  ValueId sum_of(ValueId value);
  Status reverse(const Node& node);

  Graph& g_;
  const std::function<bool(const Value&)>& trains_;
  std::vector<bool> needed_;                          // (values of the forward pass)
  std::map<ValueId, std::vector<ValueId>> summands_;  // of the gradient of a value
  std::vector<WeightGradient> weights_;
  const Node* node_ = nullptr;
  std::vector<ValueId> dy_;
};

}  // namespace moe

// A model's forward pass, one layer at a time: what a search runs on blocks of text, since any layer may be where a candidate
// begins to differ from what is known.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "evolution/text_data.h"
#include "models/partial_pass.h"

namespace moe {

struct BlockLimits {  // of all blocks that will be run
  int tokens = 1, rows = 1, sequences = 1, longest = 1;
  void include(const TextBlock& block);
};

// Not thread-safe. The model must outlive it. Results do not depend on where a pass starts.
class LayerSteps {
 public:
  static Result<std::unique_ptr<LayerSteps>> create(const Model& model, const BlockLimits& limits);

  // Layers first, first + 1, … and the head. x (T, d_model) is what enters layer `first`; empty with 0: the tokens do.
  // on_residual(l, x (T, d_model)) gets what enters each layer behind.
  using OnResidual = std::function<void(int layer, std::span<const float> x)>;
  Status run(const RoutingTopology& topology, const TextBlock& block, int first, std::span<const float> x,
             const OnResidual& on_residual);
  std::span<const float> logits() const { return logits_; }  // (R, n_vocab) of the block's rows, until the next run

  int n_layers() const { return static_cast<int>(steps_.size()); }

 private:
  struct Step {
    std::unique_ptr<PartialPass> pass;  // made when first needed
    int k = 0;                          // its capacity
  };
  LayerSteps(const Model& model, const BlockLimits& limits) : model_(model), limits_(limits) {}
  Result<PartialPass*> step(int layer, const RoutingTopology& topology);

  const Model& model_;
  const BlockLimits limits_;
  std::vector<Step> steps_;  // (n layers)
  std::span<const float> logits_;
};

}  // namespace moe

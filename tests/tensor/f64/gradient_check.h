// The reverse pass of a graph against differences of its forward pass, both in double precision.
#pragma once

#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {

// Coefficients of a value in L whose gradients ops add by themselves: route_grad's losses, by its balance.
struct LossTerm {
  ValueId value = kNone;
  Doubles coefficients;
};

// A graph whose float32 weights are what is checked. Activations that an op takes are made from weights: embed of a table with
// ids 0, 1, …, so that the gradient with respect to a token's row is that of the table's.
struct GradientCase {
  Graph g;
  ValueId y = kNone;  // L = Σ c · y for random c, and the terms of `also`
  RunShape run;
  Values64 values;          // of inputs and states; weights that are absent here are drawn from the normal distribution
  double tolerance = 1e-6;  // largest difference, as a share of the largest derivative of the weight at hand (at least 1e-3)
  uint64_t seed = 1;
  std::vector<LossTerm> also = {};
};

// Checks every element of weights of up to 64 elements, and 64 of larger ones, by central differences of step 1e-5. What is
// trained: all float32 weights. Wants at least one gradient, and each of a trained weight to be other than zero somewhere
// unless `may_vanish`. Refuses cases in which a step changes a choice: integers that nodes make.
void check_gradients(GradientCase c, bool may_vanish = false);

}  // namespace moe::test

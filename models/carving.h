// What a model keeps when the experts that a topology never runs are gone: router rows and weights of each layer, and the same
// topology over the rows that are left. Routing by either picks the same weights in the same order, so results are the same
// bits:
//
//   before  e0  e1  e2  e3  e4  e5      e1, e4, e5: masked for every class; e4 redirects to e2
//   rows    0       1   2   3           e4 stays as a row of the router: tokens may still choose it, and go to e2
//   stacks  0       1   2               its weights run for nobody and go, as all of e1 and e5 does
//
// Group-limited routing compares groups of equal length. Where experts leave groups of different lengths, rows of masked
// experts stay in the shorter ones; groups that are empty in every layer go whole where each layer loses as many.
#pragma once

#include "models/expert_layout.h"
#include "models/routing.h"

namespace moe {

struct CarvedLayer {             // of a dense layer, and of one that is skipped: nothing
  std::vector<int32_t> rows;     // router rows that stay, by their numbers before, ascending
  std::vector<int32_t> experts;  // whose weights stay: places in the stacks before, ascending
  LayerExperts layout;           // of what is left; all experts of a layer have the width of its widest
};

struct Carving {
  std::vector<CarvedLayer> layers;  // (n_layers)
  RoutingShape shape;               // of the smaller model; its hash is 0
  RoutingTopology topology;         // over the rows that stay, valid for this shape, in the plainest form that routes alike
};

// The topology must be valid for the shape.
Carving carve(const RoutingTopology& topology, const RoutingShape& shape);

}  // namespace moe

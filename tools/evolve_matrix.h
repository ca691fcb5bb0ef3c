// The routing matrix of a topology as a picture: a row a layer, a column an expert.
//
//   layer 0  █ ▄ · █ █ · …  k 4      filled as high as the expert is wide; coloured by its share of the layer's tokens
//   layer 1  █ █ · · █ █ …  k 2-4    against the fair share (usage_map.h), dark where that is not known; a dot: masked
#pragma once

#include <string>

#include "models/routing.h"
#include "tools/canvas.h"
#include "tools/evolve_analysis.h"

namespace moe::tools {

struct MatrixOptions {
  std::string title;
  const RunAnalysis* analysis = nullptr;  // of the same model; null: nothing is known of loads
};

// Dense layers are left out. Rows and columns get thinner with their number; what goes beyond the largest canvas is left out,
// and the title says so. kInvalidArgument for a topology without routed layers.
Result<Canvas> draw_matrix(const RoutingTopology& topology, const MatrixOptions& options);

// 1 where tokens of some class may use the expert. (n_experts); all 0 in a layer that is skipped.
std::vector<uint8_t> kept_experts(const LayerRouting& layer);

}  // namespace moe::tools

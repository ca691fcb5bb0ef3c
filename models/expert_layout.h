// How the experts of each layer lie in the file, where layers differ: models that moe-quantize --topology has made smaller.
//
//   router rows   0 1 2 3 4 5     what a topology calls experts; rows ascend as they did in the model they come from
//   place         0 1 − 2 − 3     where an expert's weights are in the stacks; −: nowhere, no token may end there
//   stacks        0 1   2   3     ffn_*_exps: (n, …)
//
// A row without weights is there for its logit alone: its expert is masked and redirected to another, or it keeps the groups of
// group-limited routing equally long.
#pragma once

#include <cstdint>
#include <vector>

#include "core/status.h"
#include "models/io/metadata.h"

namespace moe {

struct LayerExperts {
  int n = 0;                   // experts with weights; 0: a dense layer, or one whose experts are gone, router and all
  int rows = 0;                // of the router
  int d_ff = 0;                // hidden channels of an expert
  std::vector<int32_t> place;  // (rows), ascending but for −1; empty: row i is expert i

  bool operator==(const LayerExperts&) const = default;
};

// The moe.experts.* keys (models/io/README.md). Empty where the file has none. Layers have n_expert experts where no key says
// otherwise, and d_ff 0 where none gives widths. kCorrupt where counts, widths and places do not fit each other.
Result<std::vector<LayerExperts>> read_expert_layout(const Metadata& metadata, int n_layer, int n_expert);

// Replaces those keys by the ones that are needed to say what differs from n_expert experts of d_ff_expert channels, a router
// row each, in every layer behind the first n_dense. False: none.
bool write_expert_layout(const std::vector<LayerExperts>& layers, int n_dense, int n_expert, int d_ff_expert,
                         Metadata& metadata);

}  // namespace moe

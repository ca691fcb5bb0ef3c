// RoutingTopology: what every MoE layer does with its router's output, as data. It is the genome of the project: a search edits
// it, a session swaps it while running, moe-quantize --topology carves it into a file. Models never change for it; the `route`
// and expert ops read these numbers at run time.
//
// One token of class c meets one layer:
//
//   logits ──÷ temperature──► scores p ──+ bias──► selection order ──► the k_max best usable experts, slot 0 first
//                                                                          │
//      usable(c, e) = allow[c][e], or redirect[e] is an expert             ▼
//      that takes e's place                                 slot i ≥ k_min is kept while p_i > threshold · p_0
//                                                                          │
//      expert e runs the first width[e] of its hidden channels  ◄──────────┘  a dropped slot is id −1: no work, weight 0
//
// Goals: a plain value (copy, compare, hash, diff), checked once by validate() and then trusted by kernels.
// Non-goals: weights, and anything learnt by gradient. Rejected: redirects per class (n_classes × n_experts numbers, with no
// use that masks per class do not serve); k per class (classes that need another k can be given a bias instead).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace moe {

inline constexpr int kMaxTokenClasses = 16;
inline constexpr const char* kTopologyKey = "moe.topology";  // of a model file that brings its own, as JSON

struct LayerRouting {  // a dense layer has n_experts == 0 and nothing else
  int n_experts = 0;
  std::vector<uint8_t> allow;     // (n_classes, n_experts) 1 = may be used by tokens of that class
  int k_min = 0, k_max = 0;       // experts a token uses at least / at most; both 0: none, the layer is skipped
  float threshold = 0;            // [0, 1]; slot i >= k_min is kept while p_i > threshold * p_0
  float temperature = 1;          // > 0; router logits are divided by it
  std::vector<float> bias;        // (n_experts) added to the selection score, empty = none
  std::vector<int32_t> width;     // (n_experts) hidden channels used, empty = all
  std::vector<int32_t> redirect;  // (n_experts) expert that takes a masked expert's place, -1 none, empty = none

  bool operator==(const LayerRouting&) const = default;
};

struct RoutingTopology {
  uint64_t model_hash = 0;           // of the model it was made for
  int n_classes = 1;                 // 1..kMaxTokenClasses
  std::vector<uint8_t> token_class;  // (n_vocab) class of each token id, empty = all class 0
  std::vector<LayerRouting> layers;  // (n_layers)
  std::string note;                  // UTF-8, for people

  bool operator==(const RoutingTopology&) const = default;
};

// What a model offers; a topology is valid or not for one shape.
struct RoutingShape {
  struct Layer {
    int n_experts = 0;   // 0: dense
    int k = 0;           // the model's own experts per token
    int d_ff = 0;        // hidden channels of one expert
    int width_step = 1;  // widths are multiples of it: the block of the down projection's format
    int n_group = 1;     // group-limited routing: experts are cut into n_group runs of equal length ...
    int topk_group = 1;  // ... and a token uses experts of the topk_group best groups only
    // (n_experts) where the weights of each expert are in the file, -1: nowhere, so that all classes mask it; empty: all are.
    std::vector<int32_t> place = {};

    bool has_weights(size_t e) const { return place.empty() || place[e] >= 0; }
  };
  uint64_t model_hash = 0;
  int n_vocab = 0;
  std::vector<Layer> layers;  // (n_layers)
};

// Everything allowed that has weights, the model's own k: the model as it was trained.
RoutingTopology full_topology(const RoutingShape& shape);

// Ok, or kInvalidArgument naming layer, field, wanted and found. With group-limited routing the usable experts of a class must
// reach k_max whichever topk_group groups win; a group without usable experts never wins against one that has some.
Status validate(const RoutingTopology& topology, const RoutingShape& shape);

// Of what changes routing: the note does not count, and a vector of neutral values (no bias, no redirect, class 0) counts as
// empty.
uint64_t hash(const RoutingTopology& topology);
std::string hash_to_hex(uint64_t hash);  // 16 lower-case digits

// --- Edits behind moe-run's options. They return values for validate() to judge; dense layers stay as they are. ---

// Every layer uses k experts, or all it has where it has fewer; a k that no layer can serve is left for validate() to refuse. A
// layer with k_min < k_max keeps its k_min, up to k; a skipped one stays skipped.
RoutingTopology with_k(const RoutingTopology& topology, const RoutingShape& shape, int k);
// k_min becomes 1, but in layers that are skipped.
RoutingTopology with_threshold(const RoutingTopology& topology, float threshold);
// Every expert uses this share of its hidden channels, rounded up to width_step. 1 or more: all of them.
RoutingTopology with_width(const RoutingTopology& topology, const RoutingShape& shape, double fraction);

// --- What a topology saves (static: experts of a layer are taken to be used equally often). ---

struct TopologySummary {
  struct Layer {
    int index = 0;  // in RoutingShape::layers
    int n_experts = 0;
    int kept = 0;                          // experts that some class of token can reach; 0 in a layer that is skipped
    double k_low = 0, k_high = 0;          // experts per token; they differ where a threshold decides
    double width = 1;                      // mean share of hidden channels over the kept experts
    double flops_low = 1, flops_high = 1;  // expert FLOPs per token relative to the full topology
    double bytes = 1;                      // expert weights kept relative to the full topology
  };
  std::vector<Layer> layers;  // the routed ones, in order
  Layer total;                // index -1: experts summed, k and width averaged over layers, FLOPs and bytes weighted by size
};

// The topology must be valid for the shape.
TopologySummary summarize(const RoutingTopology& topology, const RoutingShape& shape);

// One line for each difference, e.g. "layer 3: class 0: masked 5, 17-19"; empty when both route alike.
std::string diff(const RoutingTopology& from, const RoutingTopology& to);

// --- JSON: TOPOLOGY.md describes every field. ---

// Stable: equal topologies give equal text. One line per array, masks as lists of masked ids, so that a text diff reads well.
std::string to_json(const RoutingTopology& topology);
// kCorrupt naming the JSON path, wanted and found. Checks the text against itself; validate() checks it against a model.
Result<RoutingTopology> topology_from_json(std::string_view text);

Result<RoutingTopology> load_topology(const std::string& path);
// Written whole or not at all. kInvalidArgument when a number is not finite or a vector has the wrong length.
Status save_topology(const RoutingTopology& topology, const std::string& path);

}  // namespace moe

// What tests and the benchmark of the Gram cache need: routings of all kinds, forward passes of one layer, caches of layers
// that no model has. Wrong use is a BugError.
#pragma once

#include <memory>
#include <vector>

#include "core/rng.h"
#include "evolution/gram_collect.h"
#include "models/partial_pass.h"

namespace moe::test {

// Anything that a genome may say about a layer: masks of classes, k, threshold, temperature, bias, redirects, and widths where
// asked; valid for the shape.
LayerRouting random_routing(const RoutingShape& shape, size_t layer, int n_classes, bool widths, Rng& rng);

// The layer's relative squared error, measured by running it on the inputs of a calibration's sample.
class ForwardError {
 public:
  ForwardError(const Model& model, const Calibration& calibration, int layer);
  double operator()(const LayerRouting& routing, int n_classes, const std::vector<uint8_t>& token_class);

 private:
  std::span<const float> run(const RoutingTopology& topology);
  const Model& model_;
  const Calibration& calibration_;
  const size_t layer_;
  std::unique_ptr<PartialPass> pass_;
  std::vector<float> full_;
};

// A source of `n_layers` equal layers with random logits and experts, outputs of length d.
struct SyntheticLayers {
  SyntheticLayers(const RoutingShape::Layer& layer, int n_layers, int n_tokens, int d, uint64_t seed = 1);
  SyntheticLayers(const SyntheticLayers&) = delete;  // source refers to logits
  SyntheticLayers& operator=(const SyntheticLayers&) = delete;
  RoutingShape shape;
  std::vector<float> logits;  // (S, E) of every layer
  GramSource source;
};

std::unique_ptr<Backend> router_backend();  // one thread
GramCache build_cache(const GramSource& source, const GramOptions& options = {}, int n_threads = 1);

}  // namespace moe::test

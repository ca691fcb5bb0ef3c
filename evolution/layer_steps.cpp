#include "evolution/layer_steps.h"

#include <algorithm>

namespace moe {

void BlockLimits::include(const TextBlock& b) {
  tokens = std::max(tokens, static_cast<int>(b.tokens.size()));
  rows = std::max(rows, static_cast<int>(b.rows.size()));
  sequences = std::max(sequences, static_cast<int>(b.lengths.size()));
  for (const int n : b.lengths) longest = std::max(longest, n);
}

Result<std::unique_ptr<LayerSteps>> LayerSteps::create(const Model& model, const BlockLimits& limits) {
  std::unique_ptr<LayerSteps> s(new LayerSteps(model, limits));
  s->steps_.resize(model.routing_shape().layers.size());
  MOE_TRY(s->step(0, model.topology()).status());  // what no layer could run is said here
  return s;
}

Result<PartialPass*> LayerSteps::step(int layer, const RoutingTopology& topology) {
  const auto i = static_cast<size_t>(layer);
  const auto& layers = model_.routing_shape().layers;
  Step& s = steps_[i];
  if (!s.pass || topology.layers[i].k_max > s.k) {
    const bool last = i + 1 == steps_.size();
    PartialPassOptions o;
    o.max_tokens = limits_.tokens, o.n_ctx = limits_.longest, o.max_sequences = limits_.sequences;
    o.max_outputs = last ? limits_.rows : 1;
    for (const auto& l : layers) o.k_capacity.push_back(l.k);
    s.k = o.k_capacity[i] = std::max(layers[i].k, topology.layers[i].k_max);
    MOE_ASSIGN(s.pass, PartialPass::create(model_, layer == 0 ? PassPoint::tokens() : PassPoint::residual(layer),
                                           last ? PassPoint::logits() : PassPoint::residual(layer + 1), o));
  }
  return s.pass.get();
}

Status LayerSteps::run(const RoutingTopology& topology, const TextBlock& block, int first, std::span<const float> x,
                       const OnResidual& on_residual) {
  logits_ = {};
  for (int l = first; l < n_layers(); ++l) {
    MOE_ASSIGN(PartialPass * pass, step(l, topology));
    MOE_TRY(pass->set_topology(topology));
    PassInput in;
    in.tokens = block.tokens, in.lengths = block.lengths;
    if (l > 0) in.x = x;
    const bool last = l + 1 == n_layers();
    if (last) in.outputs = block.rows;
    MOE_TRY(pass->run(in));
    x = pass->output();
    if (!last && on_residual) on_residual(l + 1, x);
  }
  logits_ = x;
  return Status::Ok();
}

}  // namespace moe

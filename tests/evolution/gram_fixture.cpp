#include "tests/evolution/gram_fixture.h"

#include <algorithm>

#include "backends/backend_registry.h"

namespace moe::test {
namespace {

// The full topology, written with room for masks of so many classes.
RoutingTopology full_with_classes(const RoutingShape& shape, int n_classes) {
  RoutingTopology t = full_topology(shape);
  t.n_classes = n_classes;
  for (LayerRouting& r : t.layers) r.allow.assign(static_cast<size_t>(r.n_experts) * static_cast<size_t>(n_classes), 1);
  return t;
}

LayerRouting draw(LayerRouting r, const RoutingShape::Layer& s, bool widths, Rng& rng) {
  const auto E = static_cast<size_t>(s.n_experts);
  const auto below = [&](int n) { return static_cast<int>(rng.below(static_cast<uint64_t>(n))); };
  for (uint8_t& a : r.allow) a = below(4) > 0;
  r.k_max = below(std::min(s.n_experts, s.k + 2) + 1);
  r.k_min = r.k_max == 0 ? 0 : 1 + below(r.k_max);
  if (below(2)) r.threshold = rng.uniform();
  if (below(2)) r.temperature = 0.5f + rng.uniform();
  if (below(3) == 0) {
    r.bias.resize(E);
    for (float& b : r.bias) b = 0.2f * rng.normal();
  }
  if (below(3) == 0) r.redirect.assign(E, -1), r.redirect[rng.below(E)] = below(s.n_experts);
  if (widths && below(2)) {
    r.width.resize(E);
    for (int32_t& w : r.width) w = channels_of(1 + below(kQuarters), s);
  }
  return r;
}

}  // namespace

LayerRouting random_routing(const RoutingShape& shape, size_t layer, int n_classes, bool widths, Rng& rng) {
  const RoutingTopology full = full_with_classes(shape, n_classes);
  for (RoutingTopology t = full;; t = full) {
    t.layers[layer] = draw(full.layers[layer], shape.layers[layer], widths, rng);
    if (validate(t, shape).ok()) return t.layers[layer];
  }
}

ForwardError::ForwardError(const Model& model, const Calibration& calibration, int layer)
    : model_(model), calibration_(calibration), layer_(static_cast<size_t>(layer)) {
  PartialPassOptions o;
  for (const auto& l : model.routing_shape().layers) o.k_capacity.push_back(std::min(l.n_experts, l.k + 2));
  pass_ = PartialPass::create(model, PassPoint::router_input(layer), PassPoint::mixture(layer), o).value();
  const std::span<const float> y = run(full_topology(model.routing_shape()));
  full_.assign(y.begin(), y.end());
}

double ForwardError::operator()(const LayerRouting& routing, int n_classes, const std::vector<uint8_t>& token_class) {
  RoutingTopology t = full_with_classes(model_.routing_shape(), n_classes);
  t.token_class = token_class, t.layers[layer_] = routing;
  const std::span<const float> y = run(t);
  double error = 0, power = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double full = full_[i], d = static_cast<double>(y[i]) - full;
    error += d * d, power += full * full;
  }
  return error / power;
}

std::span<const float> ForwardError::run(const RoutingTopology& topology) {
  MOE_CHECK(pass_->set_topology(topology).ok());
  MOE_CHECK(pass_->run({.tokens = calibration_.sampled_tokens, .x = calibration_.layers[layer_].x}).ok());
  return pass_->output();
}

SyntheticLayers::SyntheticLayers(const RoutingShape::Layer& layer, int n_layers, int n_tokens, int d, uint64_t seed) {
  RouterModel router;
  router.shape = layer;
  router.attrs.n_experts = layer.n_experts, router.attrs.normalize = true;
  Rng rng(seed);
  logits.resize(static_cast<size_t>(n_tokens) * static_cast<size_t>(layer.n_experts));
  for (float& l : logits) l = 2 * rng.normal();
  shape.layers.assign(static_cast<size_t>(n_layers), layer);
  source.d = d;
  source.tokens.assign(static_cast<size_t>(n_tokens), 0);
  source.layers.assign(static_cast<size_t>(n_layers), {router, logits});
  source.outputs = [d, seed](const ExpertQuestion& q, std::span<float> y) {
    for (size_t i = 0; i < q.ids.size(); ++i) {  // of layer, token and expert
      const auto token = static_cast<uint64_t>(q.first) + i / static_cast<size_t>(q.m);
      Rng numbers(seed + 1, (static_cast<uint64_t>(q.layer) << 40) + (token << 16) + q.ids[i]);
      for (int j = 0; j < d; ++j) y[i * static_cast<size_t>(d) + static_cast<size_t>(j)] = numbers.uniform() - 0.5f;
    }
    return Status::Ok();
  };
}

std::unique_ptr<Backend> router_backend() {
  BackendOptions o;
  o.n_threads = 1;
  return create_backend("cpu", o).value();
}

GramCache build_cache(const GramSource& source, const GramOptions& options, int n_threads) {
  const std::unique_ptr<Backend> backend = router_backend();
  ThreadPool pool(n_threads);
  return GramCache::build(source, options, *backend, pool).value();
}

}  // namespace moe::test

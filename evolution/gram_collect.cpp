#include "evolution/gram_collect.h"

#include <algorithm>
#include <memory>

#include "models/partial_pass.h"

namespace moe {
namespace {

constexpr int kRunRows = 1024;  // (token, expert) pairs of one run

// The experts of one layer after another.
class Experts {
 public:
  Experts(const Model& model, const Calibration& calibration)
      : model_(model), calibration_(calibration), full_(full_topology(model.routing_shape())) {}

  Status answer(const ExpertQuestion& q, std::span<float> y);

 private:
  Status open(int layer);
  Status set_width(int quarters);

  const Model& model_;
  const Calibration& calibration_;
  const RoutingTopology full_;
  int layer_ = -1, quarters_ = 0;
  std::unique_ptr<PartialPass> pass_;
  std::vector<float> x_;
  std::vector<int32_t> ids_;
};

Status Experts::open(int layer) {
  PartialPassOptions o;
  o.max_tokens = kRunRows;
  for (const auto& l : model_.routing_shape().layers) o.k_capacity.push_back(l.n_experts > 0);
  MOE_ASSIGN(pass_, PartialPass::create(model_, PassPoint::experts(layer), PassPoint::mixture(layer), o));
  layer_ = layer, quarters_ = kQuarters;
  return Status::Ok();
}

Status Experts::set_width(int quarters) {
  RoutingTopology t = full_;
  const auto& shape = model_.routing_shape().layers[static_cast<size_t>(layer_)];
  t.layers[static_cast<size_t>(layer_)].width.assign(static_cast<size_t>(shape.n_experts), channels_of(quarters, shape));
  MOE_TRY(pass_->set_topology(t));
  quarters_ = quarters;
  return Status::Ok();
}

Status Experts::answer(const ExpertQuestion& q, std::span<float> y) {
  if (layer_ != q.layer) MOE_TRY(open(q.layer));
  if (quarters_ != q.quarters) MOE_TRY(set_width(q.quarters));
  const auto d = static_cast<size_t>(calibration_.d_model), m = static_cast<size_t>(q.m);
  const std::vector<float>& x = calibration_.layers[static_cast<size_t>(q.layer)].x;
  const std::vector<float> ones(kRunRows, 1.0f);
  for (size_t begin = 0; begin < q.ids.size(); begin += kRunRows) {
    const size_t n = std::min<size_t>(kRunRows, q.ids.size() - begin);
    x_.resize(n * d), ids_.resize(n);
    for (size_t i = 0; i < n; ++i) {
      const size_t token = static_cast<size_t>(q.first) + (begin + i) / m;
      std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(token * d), d, x_.begin() + static_cast<std::ptrdiff_t>(i * d));
      ids_[i] = q.ids[begin + i];
    }
    MOE_TRY(pass_->run({.x = x_, .ids = ids_, .weights = std::span(ones).first(n)}));
    const std::span<const float> made = pass_->output();
    std::copy(made.begin(), made.end(), y.begin() + static_cast<std::ptrdiff_t>(begin * d));
  }
  return Status::Ok();
}

}  // namespace

Result<std::vector<RouterModel>> router_models(const Model& model) {
  MOE_ASSIGN(const ModelGraph g, model.simple_graph({}));
  std::vector<RouterModel> all(g.routers.size());
  for (size_t i = 0; i < all.size(); ++i) {
    if (g.routers[i].n_experts == 0) continue;
    const auto routes = [&](const Node& n) { return n.op == Op::kRoute && n.out[0] == g.routers[i].ids; };
    const auto node = std::find_if(g.graph.nodes.begin(), g.graph.nodes.end(), routes);
    MOE_CHECK(node != g.graph.nodes.end());
    all[i].shape = model.routing_shape().layers[i];
    all[i].attrs = std::get<RouteAttrs>(node->attrs);
    if (node->in[1] == kNone) continue;
    const auto* bias = static_cast<const float*>(g.graph.value(node->in[1]).data);  // plain vectors are float32
    all[i].selection_bias.assign(bias, bias + all[i].shape.n_experts);
  }
  return all;
}

Result<GramCache> collect_gram(const Model& model, const Calibration& calibration, const GramOptions& options,
                               const std::function<bool(int layers_done)>& on_progress) {
  if (calibration.model_hash != model.hash() || calibration.layers.size() != model.routing_shape().layers.size())
    return Status::InvalidArgument("gram cache: the calibration is one of another model");
  MOE_ASSIGN(const std::vector<RouterModel> routers, router_models(model));
  GramSource source;
  source.d = calibration.d_model;
  source.tokens.assign(calibration.sampled_tokens.begin(), calibration.sampled_tokens.end());
  source.domains = calibration.sampled_domains;
  for (size_t i = 0; i < routers.size(); ++i) source.layers.push_back({routers[i], calibration.layers[i].logits});
  Experts experts(model, calibration);
  source.outputs = [&](const ExpertQuestion& q, std::span<float> y) -> Status {
    if (on_progress && !on_progress(q.layer))
      return Status::Cancelled("gram cache: stopped after " + std::to_string(q.layer) + " layers");
    return experts.answer(q, y);
  };
  ThreadPool pool(model.backend().info().n_threads);
  return GramCache::build(source, options, model.backend(), pool);
}

}  // namespace moe

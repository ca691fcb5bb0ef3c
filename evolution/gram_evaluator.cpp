#include "evolution/gram_evaluator.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>

#include "backends/backend_registry.h"

namespace moe {

// δ of one token: columns of G, and by how much the routing's weights and the full model's differ there.
struct GramEvaluator::Difference {
  std::vector<size_t> column;
  std::vector<double> delta;

  void begin(std::span<const int32_t> full_columns, std::span<const float> full_weights) {
    column.clear(), delta.clear();
    for (size_t i = 0; i < full_columns.size(); ++i)
      if (full_columns[i] >= 0)
        column.push_back(static_cast<size_t>(full_columns[i])), delta.push_back(-static_cast<double>(full_weights[i]));
  }

  void add(size_t at, double weight) {
    const auto found = std::find(column.begin(), column.end(), at);
    if (found != column.end())
      delta[static_cast<size_t>(found - column.begin())] += weight;
    else
      column.push_back(at), delta.push_back(weight);
  }

  // δᵀ G δ; rounding may leave a little less than nothing.
  double squared(const float* gram) const {
    double sum = 0;
    for (size_t i = 0; i < column.size(); ++i) {
      double row = 0;
      for (size_t j = 0; j < i; ++j) row += delta[j] * static_cast<double>(gram[pair_index(column[i], column[j])]);
      sum += delta[i] * (2 * row + delta[i] * static_cast<double>(gram[pair_index(column[i], column[i])]));
    }
    return std::max(0.0, sum);
  }
};

GramEvaluator::GramEvaluator(const GramCache& cache) : cache_(cache), difference_(std::make_unique<Difference>()) {}
GramEvaluator::~GramEvaluator() = default;

Result<std::unique_ptr<GramEvaluator>> GramEvaluator::create(const GramCache& cache, const std::string& isa) {
  std::unique_ptr<GramEvaluator> e(new GramEvaluator(cache));
  BackendOptions o;
  o.n_threads = 1, o.isa = isa;
  MOE_ASSIGN(e->backend_, create_backend("cpu", o));
  for (int i = 0; i < cache.n_layers(); ++i) {
    int like = 0;
    while (like < i && !(cache.layer(like).router == cache.layer(i).router)) ++like;
    e->like_.push_back(like);
  }
  return e;
}

// Layers with equal routers share one.
Result<RouterReplay*> GramEvaluator::replay(int layer, int k) {
  const int like = like_[static_cast<size_t>(layer)];
  const RouterModel& router = cache_.layer(layer).router;
  auto kept = std::find_if(replays_.begin(), replays_.end(), [&](const Kept& r) { return r.like == like; });
  if (kept == replays_.end()) kept = replays_.insert(kept, {like, nullptr});
  if (!kept->replay || kept->replay->k_capacity() < k) {
    MOE_ASSIGN(kept->replay, RouterReplay::create(*backend_, router, std::max(k, router.shape.k), cache_.n_tokens()));
  }
  return kept->replay.get();
}

Status GramEvaluator::check(int layer, const LayerRouting& r, const SampleClasses& classes) const {
  if (layer < 0 || layer >= cache_.n_layers() || cache_.layer(layer).is_dense())
    return Status::InvalidArgument("gram: layer " + std::to_string(layer) + " is not routed");
  const int E = cache_.layer(layer).router.shape.n_experts;
  const auto n = static_cast<size_t>(E);
  const auto fits = [&](const auto& v) { return v.empty() || v.size() == n; };
  const bool ok = r.n_experts == E && classes.n_classes >= 1 && classes.n_classes <= kMaxTokenClasses &&
                  classes.of.size() == static_cast<size_t>(cache_.n_tokens()) &&
                  r.allow.size() == n * static_cast<size_t>(classes.n_classes) && fits(r.bias) && fits(r.width) &&
                  fits(r.redirect) && r.k_min >= 0 && r.k_max >= r.k_min && r.k_max <= E;
  return ok ? Status::Ok()
            : Status::InvalidArgument("gram: layer " + std::to_string(layer) + ": the routing is not one of " +
                                      std::to_string(E) + " experts and " + std::to_string(classes.n_classes) + " classes");
}

Status GramEvaluator::set_widths(const GramLayer& l, const LayerRouting& r) {
  const RoutingShape::Layer& shape = l.router.shape;
  const auto E = static_cast<size_t>(shape.n_experts);
  quarters_.assign(E, kQuarters), width_share_.assign(E, 1);
  for (size_t e = 0; e < r.width.size(); ++e) {
    int q = kQuarters;
    while (q > 0 && channels_of(q, shape) != r.width[e]) --q;
    if (q == 0 || (q < kQuarters && !cache_.has_widths()))
      return Status::Unsupported("gram: expert " + std::to_string(e) + ": wanted " +
                                 (cache_.has_widths() ? "a quarter of the width" : "the whole width, the cache has no other") +
                                 ", found " + std::to_string(r.width[e]) + " of " + std::to_string(shape.d_ff) + " channels");
    quarters_[e] = static_cast<uint8_t>(q), width_share_[e] = static_cast<double>(r.width[e]) / shape.d_ff;
  }
  return Status::Ok();
}

// Where expert e stands among the token's candidates; m where it does not.
size_t GramEvaluator::candidate(const GramLayer& l, size_t token, size_t e) {
  const auto m = static_cast<size_t>(l.m);
  if (l.m == l.router.shape.n_experts) return e;
  const uint16_t* ids = l.candidates.data() + token * m;
  const auto at = static_cast<size_t>(std::lower_bound(ids, ids + m, e) - ids);
  return at < m && ids[at] == e ? at : m;
}

// ‖Δ‖² of one token, and what its experts add to the counts.
double GramEvaluator::token_error(const GramLayer& l, size_t t, const RouterReplay& router, LayerError& result) {
  const auto k = static_cast<size_t>(l.router.shape.k), K = static_cast<size_t>(router.k_capacity());
  const auto n = static_cast<size_t>(l.n_columns), m = static_cast<size_t>(l.m), widths = n / m;
  difference_->begin(std::span(l.full_column).subspan(t * k, k), std::span(l.full_weight).subspan(t * k, k));
  double outside = 0;  // weights of experts that are no candidates
  bool escaped = false;
  for (size_t i = t * K; i < (t + 1) * K; ++i) {
    if (router.ids()[i] < 0) continue;
    const auto e = static_cast<size_t>(router.ids()[i]);
    const double w = router.weights()[i];
    ++result.load[e];
    if (const size_t at = candidate(l, t, e); at < m)
      difference_->add(widths == 1 ? at : at * widths + quarters_[e] - 1, w);
    else
      outside += std::fabs(w), escaped = true;
  }
  const double squared = difference_->squared(l.gram.data() + t * (n * (n + 1) / 2));
  if (!escaped) return squared;
  ++result.escaped;
  const double length = std::sqrt(squared) + outside * static_cast<double>(l.longest);
  return length * length;
}

Status GramEvaluator::evaluate(int layer, const LayerRouting& routing, const SampleClasses& classes, LayerError& result) {
  MOE_TRY(check(layer, routing, classes));
  const GramLayer& l = cache_.layer(layer);
  MOE_TRY(set_widths(l, routing));
  MOE_ASSIGN(RouterReplay * router, replay(layer, routing.k_max));
  MOE_TRY(router->run(routing, classes.n_classes, l.logits, classes.of));

  const auto S = classes.of.size();
  result.load.assign(static_cast<size_t>(routing.n_experts), 0), result.escaped = 0;
  const auto clear = [](std::vector<double>& error, std::vector<double>& power, int n) {
    error.assign(static_cast<size_t>(n), 0), power.assign(static_cast<size_t>(n), 0);
  };
  clear(result.class_error, class_power_, classes.n_classes), clear(result.domain_error, domain_power_, cache_.n_domains());
  double error = 0, power = 0, length = 0, whole_length = 0;
  for (size_t t = 0; t < S; ++t) {
    const auto c = static_cast<size_t>(classes.of[t]), d = static_cast<size_t>(cache_.domains()[t]);
    const double squared = token_error(l, t, *router, result), whole = static_cast<double>(l.power[t]);
    error += squared, power += whole;
    length += std::sqrt(squared), whole_length += std::sqrt(whole);
    result.class_error[c] += squared, class_power_[c] += whole;
    result.domain_error[d] += squared, domain_power_[d] += whole;
  }
  const auto divide = [](double& x, double by) { x = by > 0 ? x / by : 0; };
  divide(error, power), divide(length, whole_length);
  result.error = error, result.length = length;
  for (size_t c = 0; c < class_power_.size(); ++c) divide(result.class_error[c], class_power_[c]);
  for (size_t d = 0; d < domain_power_.size(); ++d) divide(result.domain_error[d], domain_power_[d]);
  double used = 0, work = 0;
  for (size_t e = 0; e < result.load.size(); ++e) used += result.load[e], work += result.load[e] * width_share_[e];
  result.k_mean = used / static_cast<double>(S), result.work_mean = work / static_cast<double>(S);
  return Status::Ok();
}

Status GramEvaluator::evaluate(int layer, const LayerGene& gene, const SampleClasses& classes, LayerError& result) {
  if (layer < 0 || layer >= cache_.n_layers() || gene.n_experts != cache_.layer(layer).router.shape.n_experts)
    return Status::InvalidArgument("gram: layer " + std::to_string(layer) + " has no gene of " +
                                   std::to_string(gene.n_experts) + " experts");
  return evaluate(layer, routing_of(gene, cache_.layer(layer).router.shape), classes, result);
}

Result<std::unique_ptr<GramPool>> GramPool::create(const GramCache& cache, ThreadPool& threads, const std::string& isa) {
  std::unique_ptr<GramPool> pool(new GramPool(threads));
  for (int i = 0; i < threads.size(); ++i) {
    MOE_ASSIGN(std::unique_ptr<GramEvaluator> evaluator, GramEvaluator::create(cache, isa));
    pool->evaluators_.push_back(std::move(evaluator));
  }
  return pool;
}

Status GramPool::evaluate(std::span<const GramJob> jobs, std::span<LayerError> results) {
  MOE_CHECK(jobs.size() == results.size());
  std::atomic<size_t> next{0};
  std::vector<Status> failed(jobs.size());
  auto work = [&](int thread) {
    GramEvaluator& evaluator = *evaluators_[static_cast<size_t>(thread)];
    for (size_t i = next.fetch_add(1); i < jobs.size(); i = next.fetch_add(1))
      failed[i] = evaluator.evaluate(jobs[i].layer, *jobs[i].gene, *jobs[i].classes, results[i]);
  };
  threads_.run(work);
  for (Status& s : failed) MOE_TRY(std::move(s));
  return Status::Ok();
}

}  // namespace moe

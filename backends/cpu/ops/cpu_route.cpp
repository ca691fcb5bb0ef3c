// The router's decision: which experts a token uses and with what weights. Scalar on purpose but for exp: sums run over the
// allowed experts in ascending order, so leaving masked experts out of the file later gives the same bits as masking them.
//
// Steps for one token (E experts, topology tables of its layer, c = class of the token):
//   1. eligible(e): allow[c][e], or redirect[e] names an allowed expert; and its logit was not dropped. Others do not exist,
//   not
//      even in the softmax's sum.
//   2. scores p from logits / temperature by the gating; selection values v = p + selection_bias + topology bias.
//   3. Group-limited: only experts of the topk_group best groups stay (DeepSeek-V2 §2.2.2; V3 §2.1.2).
//   4. The k_max largest v, ties to the lower id, make slots 0, 1, …; slot i ≥ k_min is dropped unless p_i > threshold · p_0.
//   5. Weights are p, divided by their sum if the architecture normalises; otherwise the kept slots take over the dropped ones'
//      share, so that a threshold changes the mixture but not its total.
//   6. A slot of a masked expert goes to its redirect; if that expert has a slot already, the weights add up there.
//   7. Ids become places in the stacks, where those lack experts.
// Slots without an expert are id −1, weight 0.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cpu/ops/router.h"

namespace moe::cpu {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();

}  // namespace

RoutingTables::RoutingTables(const OpContext& c)
    : k_min(std::max<int64_t>(1, std::lrint(c.in(2).f32()[0]))),
      k_max(std::max<int64_t>(0, std::lrint(c.in(2).f32()[1]))),
      threshold(c.in(2).f32()[2]),
      temperature(c.in(2).f32()[3]),
      allow(c.in(3).i8()),
      token_class(c.in(4).i32()),
      bias(c.in(5).f32()),
      redirect(c.in(6).i32()),
      selection_bias(c.has(1) ? c.in(1).f32() : nullptr) {}

Router::Router(const OpContext& c, const RoutingTables& t)
    : kernels_(c.kernels), a_(c.attrs<RouteAttrs>()), t_(t), E_(a_.n_experts) {
  p_ = c.scratch.take<float>(static_cast<size_t>(E_));
  v_ = c.scratch.take<float>(static_cast<size_t>(E_));
  best_ = c.scratch.take<float>(static_cast<size_t>(a_.k_capacity));
  group_ = c.scratch.take<float>(static_cast<size_t>(a_.n_group));
}

void Router::route(const float* logits, int32_t token_class, int32_t* ids, float* weights) {
  choose(logits, token_class, ids, weights);
  const float by = divisor(drop(ids, weights));
  for (int64_t i = 0; i < a_.k_capacity; ++i) {
    if (by != 1) weights[i] /= by;
    weights[i] *= a_.scale;
  }
  redirect(ids, weights, nullptr);
}

void Router::choose(const float* logits, int32_t token_class, int32_t* ids, float* weights) {
  allow_ = t_.allow + token_class * E_, logits_ = logits;
  score(logits);
  for (int64_t e = 0; e < E_; ++e) {
    v_[e] = eligible(e) ? p_[e] + (t_.selection_bias ? t_.selection_bias[e] : 0) + t_.bias[e] : kOut;
    if (std::isnan(v_[e])) v_[e] = kOut;
  }
  if (a_.n_group > 1) limit_groups();
  select(ids, weights);
  if (a_.gating != Gating::kSoftmaxSelected) return;
  const float top = ids[0] >= 0 ? *std::max_element(weights, weights + used(ids)) : 0;
  for (int64_t i = 0; i < used(ids); ++i) weights[i] = std::exp(weights[i] - top);
}

bool Router::eligible(int64_t e) const {
  if (logits_[e] <= kDroppedLogit) return false;  // NaN is not: it must show
  if (allow_[e]) return true;
  const int32_t r = t_.redirect[e];
  return r >= 0 && allow_[r];
}

void Router::score(const float* logits) {
  float top = kOut;
  for (int64_t e = 0; e < E_; ++e) {
    p_[e] = eligible(e) ? (t_.temperature == 1 ? logits[e] : logits[e] / t_.temperature) : kOut;
    top = std::max(top, p_[e]);
  }
  if (a_.gating == Gating::kSigmoid) kernels_.sigmoid(p_, p_, E_);
  if (a_.gating != Gating::kSoftmax) return;
  kernels_.exp_minus_max(p_, top, E_);
  float sum = 0;
  for (int64_t e = 0; e < E_; ++e)
    if (eligible(e)) sum += p_[e];
  for (int64_t e = 0; e < E_; ++e) p_[e] /= sum;
}

void Router::limit_groups() {
  const int64_t size = E_ / a_.n_group;
  for (int64_t g = 0; g < a_.n_group; ++g) {
    float best[2] = {kOut, kOut};
    for (int64_t e = g * size; e < (g + 1) * size; ++e) {
      if (v_[e] > best[0])
        best[1] = best[0], best[0] = v_[e];
      else
        best[1] = std::max(best[1], v_[e]);
    }
    group_[g] = best[0] + (a_.group_top > 1 && best[1] != kOut ? best[1] : 0);
  }
  for (int64_t n = 0; n < a_.n_group - a_.topk_group; ++n) {  // drop the worst; of equals the later one
    int64_t worst = -1;
    for (int64_t g = 0; g < a_.n_group; ++g)
      if (!std::isnan(group_[g]) && (worst < 0 || group_[g] <= group_[worst])) worst = g;
    group_[worst] = std::numeric_limits<float>::quiet_NaN();
    std::fill(v_ + worst * size, v_ + (worst + 1) * size, kOut);
  }
}

// The ids of the largest v in falling order, equal ones in ascending order of id; weights hold p of each slot.
// One pass with an insertion: among 1,024 experts few are ever better than the worst that is kept.
void Router::select(int32_t* ids, float* weights) {
  const int64_t k_max = std::min(t_.k_max, a_.k_capacity);
  int64_t n = 0;
  for (int64_t e = 0; e < E_ && k_max > 0; ++e) {
    if (!(v_[e] > (n < k_max ? kOut : best_[n - 1]))) continue;
    int64_t i = n < k_max ? n++ : n - 1;
    for (; i > 0 && best_[i - 1] < v_[e]; --i) best_[i] = best_[i - 1], ids[i] = ids[i - 1];
    best_[i] = v_[e], ids[i] = static_cast<int32_t>(e);
  }
  for (int64_t i = 0; i < n; ++i) weights[i] = p_[ids[i]];
  std::fill(ids + n, ids + a_.k_capacity, -1);
  std::fill(weights + n, weights + a_.k_capacity, 0.0f);
}

Router::Sums Router::drop(int32_t* ids, float* weights) const {
  Sums sums{0, 0};
  for (int64_t i = 0; i < a_.k_capacity; ++i) sums.all += weights[i];
  const float bar = t_.threshold * weights[0];
  for (int64_t i = t_.k_min; i < a_.k_capacity; ++i)
    if (t_.threshold > 0 && !(weights[i] > bar)) ids[i] = -1, weights[i] = 0;
  for (int64_t i = 0; i < a_.k_capacity; ++i) sums.kept += weights[i];
  return sums;
}

float Router::divisor(Sums sums) const {
  if (a_.normalize || a_.gating == Gating::kSoftmaxSelected) return std::max(sums.kept, kSmallestSum);
  return sums.kept != sums.all ? sums.kept / sums.all : 1;
}

int64_t Router::used(const int32_t* ids) const {
  int64_t n = 0;
  while (n < a_.k_capacity && ids[n] >= 0) ++n;
  return n;
}

void Router::redirect(int32_t* ids, float* weights, int64_t* moved) const {
  for (int64_t i = 0; moved && i < a_.k_capacity; ++i) moved[i] = i;
  for (int64_t i = 0; i < a_.k_capacity; ++i) {
    if (ids[i] < 0 || allow_[ids[i]]) continue;
    const int32_t target = t_.redirect[ids[i]];
    int32_t* there = std::find(ids, ids + a_.k_capacity, target);
    if (there == ids + a_.k_capacity) {
      ids[i] = target;
    } else {
      weights[there - ids] += weights[i];
      ids[i] = -1, weights[i] = 0;
      if (moved) moved[i] = there - ids;
    }
  }
}

size_t scratch_route(const Graph&, const Node& node, int64_t) {
  const auto& a = std::get<RouteAttrs>(node.attrs);
  return 2 * align_up(static_cast<size_t>(a.n_experts) * sizeof(float)) +
         align_up(static_cast<size_t>(a.k_capacity) * sizeof(float)) + align_up(static_cast<size_t>(a.n_group) * sizeof(float));
}

void run_route(const OpContext& c) {
  const Tensor logits = c.in(0);
  const RoutingTables tables(c);
  Arena::Frame frame(c.scratch);
  Router router(c, tables);
  const int64_t E = logits.shape.last(), K = c.out(0).shape.last();
  const int32_t* place = c.has(8) ? c.in(8).i32() : nullptr;
  const Range r = c.my_range(logits.shape[0]);
  for (int64_t t = r.begin; t < r.end; ++t) {
    int32_t* ids = c.out(0).i32() + t * K;
    router.route(logits.f32() + t * E, tables.token_class[t], ids, c.out(1).f32() + t * K);
    for (int64_t i = 0; place && i < K; ++i)
      if (ids[i] >= 0) ids[i] = place[ids[i]];
  }
}

}  // namespace moe::cpu

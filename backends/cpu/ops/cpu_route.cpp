// The router's decision: which experts a token uses and with what weights. Scalar on purpose but for exp: sums run over the
// allowed experts in ascending order, so leaving masked experts out of the file later gives the same bits as masking them.
//
// Steps for one token (E experts, topology tables of its layer, c = class of the token):
//   1. eligible(e): allow[c][e], or redirect[e] names an allowed expert. Others do not exist, not even in the softmax's sum.
//   2. scores p from logits / temperature by the gating; selection values v = p + selection_bias + topology bias.
//   3. Group-limited: only experts of the topk_group best groups stay (DeepSeek-V2 §2.2.2; V3 §2.1.2).
//   4. The k_max largest v, ties to the lower id, make slots 0, 1, …; slot i ≥ k_min is dropped unless p_i > threshold · p_0.
//   5. Weights are p, divided by their sum if the architecture normalises; otherwise the kept slots take over the dropped ones'
//      share, so that a threshold changes the mixture but not its total.
//   6. A slot of a masked expert goes to its redirect; if that expert has a slot already, the weights add up there.
// Slots without an expert are id −1, weight 0.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();
constexpr float kSmallestSum = 6.103515625e-5f;  // 2^-14: as the published implementations clamp it

struct Tables {
  int64_t k_min, k_max;
  float threshold, temperature;
  const int8_t* allow;          // (C, E)
  const int32_t* token_class;   // (T)
  const float* bias;            // (E)
  const int32_t* redirect;      // (E)
  const float* selection_bias;  // (E) or null
};

class Router {
 public:
  Router(const OpContext& c, const Tables& t) : c_(c), a_(c.attrs<RouteAttrs>()), t_(t), E_(a_.n_experts) {
    p_ = c.scratch.take<float>(static_cast<size_t>(E_));
    v_ = c.scratch.take<float>(static_cast<size_t>(E_));
    best_ = c.scratch.take<float>(static_cast<size_t>(a_.k_capacity));
    group_ = c.scratch.take<float>(static_cast<size_t>(a_.n_group));
  }

  void route(const float* logits, int32_t token_class, int32_t* ids, float* weights) {
    allow_ = t_.allow + token_class * E_;
    score(logits);
    for (int64_t e = 0; e < E_; ++e) {
      v_[e] = eligible(e) ? p_[e] + (t_.selection_bias ? t_.selection_bias[e] : 0) + t_.bias[e] : kOut;
      if (std::isnan(v_[e])) v_[e] = kOut;
    }
    if (a_.n_group > 1) limit_groups();
    select(ids, weights);
    weigh(ids, weights);
    redirect(ids, weights);
  }

 private:
  bool eligible(int64_t e) const {
    if (allow_[e]) return true;
    const int32_t r = t_.redirect[e];
    return r >= 0 && allow_[r];
  }

  void score(const float* logits) {
    float top = kOut;
    for (int64_t e = 0; e < E_; ++e) {
      p_[e] = eligible(e) ? (t_.temperature == 1 ? logits[e] : logits[e] / t_.temperature) : kOut;
      top = std::max(top, p_[e]);
    }
    if (a_.gating == Gating::kSigmoid) c_.kernels.sigmoid(p_, p_, E_);
    if (a_.gating != Gating::kSoftmax) return;
    c_.kernels.exp_minus_max(p_, top, E_);
    float sum = 0;
    for (int64_t e = 0; e < E_; ++e)
      if (eligible(e)) sum += p_[e];
    for (int64_t e = 0; e < E_; ++e) p_[e] /= sum;
  }

  void limit_groups() {
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

  // The ids of the largest v in falling order, equal ones in ascending order of id; weights hold p of each slot until weigh().
  // One pass with an insertion: among 1,024 experts few are ever better than the worst that is kept.
  void select(int32_t* ids, float* weights) {
    const int64_t k_max = std::min(t_.k_max, a_.k_capacity);
    int64_t n = 0;
    for (int64_t e = 0; e < E_; ++e) {
      if (!(v_[e] > (n < k_max ? kOut : best_[n - 1]))) continue;
      int64_t i = n < k_max ? n++ : n - 1;
      for (; i > 0 && best_[i - 1] < v_[e]; --i) best_[i] = best_[i - 1], ids[i] = ids[i - 1];
      best_[i] = v_[e], ids[i] = static_cast<int32_t>(e);
    }
    for (int64_t i = 0; i < n; ++i) weights[i] = p_[ids[i]];
    std::fill(ids + n, ids + a_.k_capacity, -1);
    std::fill(weights + n, weights + a_.k_capacity, 0.0f);
  }

  void weigh(int32_t* ids, float* weights) {
    const int64_t K = a_.k_capacity;
    if (a_.gating == Gating::kSoftmaxSelected) {
      const float top = ids[0] >= 0 ? *std::max_element(weights, weights + used(ids)) : 0;
      for (int64_t i = 0; i < used(ids); ++i) weights[i] = std::exp(weights[i] - top);
    }
    float all = 0, kept = 0;
    for (int64_t i = 0; i < K; ++i) all += weights[i];
    const float bar = t_.threshold * weights[0];
    for (int64_t i = t_.k_min; i < K; ++i)
      if (t_.threshold > 0 && !(weights[i] > bar)) ids[i] = -1, weights[i] = 0;
    for (int64_t i = 0; i < K; ++i) kept += weights[i];
    float divisor = 1;
    if (a_.normalize || a_.gating == Gating::kSoftmaxSelected)
      divisor = std::max(kept, kSmallestSum);
    else if (kept != all)
      divisor = kept / all;
    for (int64_t i = 0; i < K; ++i) {
      if (divisor != 1) weights[i] /= divisor;
      weights[i] *= a_.scale;
    }
  }

  int64_t used(const int32_t* ids) const {
    int64_t n = 0;
    while (n < a_.k_capacity && ids[n] >= 0) ++n;
    return n;
  }

  void redirect(int32_t* ids, float* weights) const {
    for (int64_t i = 0; i < a_.k_capacity; ++i) {
      if (ids[i] < 0 || allow_[ids[i]]) continue;
      const int32_t target = t_.redirect[ids[i]];
      int32_t* there = std::find(ids, ids + a_.k_capacity, target);
      if (there == ids + a_.k_capacity) {
        ids[i] = target;
      } else {
        weights[there - ids] += weights[i];
        ids[i] = -1, weights[i] = 0;
      }
    }
  }

  const OpContext& c_;
  const RouteAttrs& a_;
  const Tables& t_;
  const int64_t E_;
  const int8_t* allow_ = nullptr;
  float *p_, *v_;  // (E)
  float* best_;    // (k_capacity) the largest v, falling
  float* group_;   // (n_group)
};

}  // namespace

size_t scratch_route(const Graph&, const Node& node, int64_t) {
  const auto& a = std::get<RouteAttrs>(node.attrs);
  return 2 * align_up(static_cast<size_t>(a.n_experts) * sizeof(float)) +
         align_up(static_cast<size_t>(a.k_capacity) * sizeof(float)) + align_up(static_cast<size_t>(a.n_group) * sizeof(float));
}

void run_route(const OpContext& c) {
  const Tensor logits = c.in(0);
  const float* params = c.in(2).f32();
  const Tables tables{std::max<int64_t>(1, std::lrint(params[0])),
                      std::max<int64_t>(1, std::lrint(params[1])),
                      params[2],
                      params[3],
                      c.in(3).i8(),
                      c.in(4).i32(),
                      c.in(5).f32(),
                      c.in(6).i32(),
                      c.has(1) ? c.in(1).f32() : nullptr};
  Arena::Frame frame(c.scratch);
  Router router(c, tables);
  const int64_t E = logits.shape.last(), K = c.out(0).shape.last();
  const Range r = c.my_range(logits.shape[0]);
  for (int64_t t = r.begin; t < r.end; ++t)
    router.route(logits.f32() + t * E, tables.token_class[t], c.out(0).i32() + t * K, c.out(1).f32() + t * K);
}

}  // namespace moe::cpu

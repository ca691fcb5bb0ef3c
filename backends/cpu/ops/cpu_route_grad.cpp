// The reverse of route: tokens are shared out, and each takes the router's way again to see what was left out of its weights.
// Losses are sums over all tokens: blocks whose number is fixed, then over the blocks, so that their order is.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cpu/ops/router.h"

namespace moe::cpu {
namespace {

enum Input : size_t { kLogits = 0, kIds = 7, kWeights, kDWeights, kBalance };

constexpr int64_t kBlocks = 64;  // of tokens

struct TokenLosses {
  double load = 0;  // Σ_e load_e · p_e
  double z = 0;     // lse²
};

class RouteGrad {
 public:
  explicit RouteGrad(const OpContext& c) : c_(c), a_(c.attrs<RouteAttrs>()), tables_(c), router_(c, tables_) {
    soft_ = c.scratch.take<float>(static_cast<size_t>(a_.n_experts));
    load_ = c.scratch.take<double>(static_cast<size_t>(a_.n_experts));
    ids_ = c.scratch.take<int32_t>(static_cast<size_t>(2 * a_.k_capacity));
    x_ = c.scratch.take<float>(static_cast<size_t>(2 * a_.k_capacity));
    moved_ = c.scratch.take<int64_t>(static_cast<size_t>(a_.k_capacity));
    if (c.has(kBalance)) alpha_ = c.in(kBalance).f32()[0], beta_ = c.in(kBalance).f32()[1];
    T_ = c.in(kLogits).shape[0];
  }

  void run() {
    count_load();
    c_.barrier();  // with the op before, about the shared memory
    auto* sums = reinterpret_cast<TokenLosses*>(c_.shared);
    const Range mine = c_.my_range(kBlocks);
    for (int64_t b = mine.begin; b < mine.end; ++b) {
      sums[b] = {};
      for (int64_t t = T_ * b / kBlocks; t < T_ * (b + 1) / kBlocks; ++t) {
        const TokenLosses l = token(t);
        sums[b].load += l.load, sums[b].z += l.z;
      }
    }
    c_.barrier();
    if (c_.part == 0) report(sums);
  }

 private:
  // Every part counts all slots.
  void count_load() {
    const Tensor ids = c_.in(kIds);
    const int64_t n = ids.shape.elements();
    std::fill_n(load_, a_.n_experts, 0.0);
    double slots = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int32_t e = ids.i32()[i];
      MOE_CHECK(e >= -1 && e < a_.n_experts);
      if (e >= 0) ++load_[e], ++slots;
    }
    for (int64_t e = 0; e < a_.n_experts && slots > 0; ++e) load_[e] /= slots;
  }

  TokenLosses token(int64_t t) {
    const int64_t E = a_.n_experts, K = a_.k_capacity;
    const float* logits = c_.in(kLogits).f32() + t * E;
    float* d = c_.out(0).f32() + t * E;
    std::fill_n(d, E, 0.0f);
    router_.choose(logits, tables_.token_class[t], ids_, x_);
    if (c_.has(kDWeights)) {
      slots_gradient(c_.in(kWeights).f32() + t * K, c_.in(kDWeights).f32() + t * K, c_.in(kIds).i32() + t * K, d);
      gating_gradient(d);
    }
    const TokenLosses losses = balance(logits, d);
    for (int64_t e = 0; e < E; ++e) d[e] = router_.eligible(e) ? d[e] / tables_.temperature : 0;
    return losses;
  }

  // d[e] += dL/dx of what slots are weighed with: w_i = scale · x_i / divisor, where the divisor is the sum of what is kept, or
  // that share of all. weights, dweights (K) behind the redirects.
  void slots_gradient(const float* weights, const float* dweights, const int32_t* ids, float* d) {
    const int64_t K = a_.k_capacity;
    int32_t* kept_ids = ids_ + K;
    float* kept = x_ + K;
    std::copy_n(ids_, K, kept_ids);
    std::copy_n(x_, K, kept);
    const Router::Sums sums = router_.drop(kept_ids, kept);
    const float factor = a_.scale / router_.divisor(sums);
    float inner = 0;  // Σ dw · w
    for (int64_t i = 0; i < K; ++i)
      if (ids[i] >= 0) inner += dweights[i] * weights[i];
    float of_kept = 0, of_dropped = 0;
    if (a_.normalize || a_.gating == Gating::kSoftmaxSelected) {
      if (sums.kept > kSmallestSum) of_kept = -inner / sums.kept;
    } else if (sums.kept != sums.all) {
      of_dropped = inner / sums.all;
      of_kept = of_dropped - inner / sums.kept;
    }
    router_.redirect(kept_ids, kept, moved_);
    for (int64_t i = 0; i < K; ++i) {
      if (ids_[i] < 0) continue;
      const bool dropped = kept_ids[moved_[i]] < 0;
      const float dx = dropped ? of_dropped : factor * dweights[moved_[i]] + of_kept;
      d[ids_[i]] += a_.gating == Gating::kSoftmaxSelected ? x_[i] * dx : dx;
    }
  }

  // d[e]: from the scores to logits / temperature.
  void gating_gradient(float* d) const {
    const float* p = router_.scores();
    const int64_t E = a_.n_experts;
    if (a_.gating == Gating::kSigmoid)
      for (int64_t e = 0; e < E; ++e) d[e] *= p[e] * (1 - p[e]);
    if (a_.gating != Gating::kSoftmax) return;
    float mean = 0;
    for (int64_t e = 0; e < E; ++e)
      if (router_.eligible(e)) mean += p[e] * d[e];
    for (int64_t e = 0; e < E; ++e) d[e] = p[e] * (d[e] - mean);
  }

  // Adds the gradients of both losses to d[e].
  TokenLosses balance(const float* logits, float* d) {
    const int64_t E = a_.n_experts;
    float top = -std::numeric_limits<float>::infinity();
    for (int64_t e = 0; e < E; ++e) {
      soft_[e] = router_.eligible(e) ? logits[e] / tables_.temperature : -std::numeric_limits<float>::infinity();
      top = std::max(top, soft_[e]);
    }
    if (std::isinf(top)) return {};
    c_.kernels.exp_minus_max(soft_, top, E);
    float sum = 0;
    for (int64_t e = 0; e < E; ++e) sum += soft_[e];
    const float lse = top + std::log(sum), slope_z = 2 * beta_ * lse / static_cast<float>(T_);
    for (int64_t e = 0; e < E; ++e) soft_[e] /= sum, d[e] += slope_z * soft_[e];

    float share = 1;  // of a score in p
    const float* score = soft_;
    if (a_.gating == Gating::kSigmoid) {
      score = router_.scores();
      share = 0;
      for (int64_t e = 0; e < E; ++e)
        if (router_.eligible(e)) share += score[e];
      share = 1 / share;
    }
    double mean = 0;  // of the load, over p
    for (int64_t e = 0; e < E; ++e)
      if (router_.eligible(e)) mean += load_[e] * double{score[e] * share};
    const double slope = double{alpha_} * static_cast<double>(E) / static_cast<double>(T_);
    for (int64_t e = 0; e < E; ++e) {
      if (!router_.eligible(e)) continue;
      const float p = score[e] * share * (a_.gating == Gating::kSigmoid ? 1 - score[e] : 1);
      d[e] += static_cast<float>(slope * (load_[e] - mean)) * p;
    }
    return {mean, double{lse} * double{lse}};
  }

  void report(const TokenLosses* sums) const {
    TokenLosses all;
    for (int64_t b = 0; b < kBlocks; ++b) all.load += sums[b].load, all.z += sums[b].z;
    double entropy = 0;
    for (int64_t e = 0; e < a_.n_experts; ++e)
      if (load_[e] > 0) entropy -= load_[e] * std::log(load_[e]);
    const double n = static_cast<double>(std::max<int64_t>(T_, 1));
    float* losses = c_.out(1).f32();
    losses[0] = static_cast<float>(static_cast<double>(a_.n_experts) * all.load / n);
    losses[1] = static_cast<float>(all.z / n);
    losses[2] = static_cast<float>(entropy);
    losses[3] = 0;
  }

  const OpContext& c_;
  const RouteAttrs& a_;
  const RoutingTables tables_;
  Router router_;
  float alpha_ = 0, beta_ = 0;
  int64_t T_;
  float* soft_;     // (E) softmax of the token's logits
  double* load_;    // (E) share of all slots
  int32_t* ids_;    // (2, K) before and behind the threshold
  float* x_;        // (2, K) what slots are weighed with
  int64_t* moved_;  // (K)
};

}  // namespace

size_t scratch_route_grad(const Graph& g, const Node& node, int64_t max_tokens) {
  const auto& a = std::get<RouteAttrs>(node.attrs);
  const auto E = static_cast<size_t>(a.n_experts), K = static_cast<size_t>(a.k_capacity);
  return scratch_route(g, node, max_tokens) + align_up(E * sizeof(float)) + align_up(E * sizeof(double)) +
         align_up(2 * K * sizeof(int32_t)) + align_up(2 * K * sizeof(float)) + align_up(K * sizeof(int64_t));
}

size_t shared_route_grad(const Graph&, const Node&, int) { return kBlocks * sizeof(TokenLosses); }

void run_route_grad(const OpContext& c) {
  Arena::Frame frame(c.scratch);
  RouteGrad(c).run();
}

}  // namespace moe::cpu

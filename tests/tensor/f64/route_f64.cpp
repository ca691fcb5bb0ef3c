// References of route and its gradient.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {
namespace {

constexpr double kOut = -std::numeric_limits<double>::infinity();
constexpr double kSmallestSum = 1.0 / (1 << 14);

// A token's decision. `x` is what slots are weighed with: scores, or for kSoftmaxSelected exponentials of them.
struct Decision {
  std::vector<bool> usable;             // (E)
  Doubles z, p;                         // (E) logits / temperature, scores
  std::vector<int> chosen;              // (K) before threshold and redirects, −1: none
  Doubles x;                            // (K)
  std::vector<bool> kept;               // (K)
  double all = 0, sum = 0, factor = 0;  // Σ x of all and of those kept; weight = factor · x
  std::vector<int> ids;                 // (K) in the end
  std::vector<size_t> moved;            // (K) the slot that a slot's weight ends in
};

void score(const RouteAttrs& a, Decision& d) {
  d.p = d.z;
  if (a.gating == Gating::kSigmoid)
    for (double& v : d.p) v = 1 / (1 + std::exp(-v));
  if (a.gating != Gating::kSoftmax) return;
  double sum = 0;
  for (const double v : d.z) sum += std::exp(v);
  for (double& v : d.p) v = std::exp(v) / sum;
}

void limit_groups(const RouteAttrs& a, Doubles& v) {
  const size_t G = static_cast<size_t>(a.n_group), size = v.size() / G;
  std::vector<std::pair<double, size_t>> groups;  // −score, group
  for (size_t g = 0; g < G; ++g) {
    Doubles best(v.begin() + static_cast<std::ptrdiff_t>(g * size), v.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
    std::sort(best.rbegin(), best.rend());
    groups.emplace_back(-(best[0] + (a.group_top > 1 && size > 1 && best[1] != kOut ? best[1] : 0)), g);
  }
  std::sort(groups.begin(), groups.end());
  for (size_t i = static_cast<size_t>(a.topk_group); i < G; ++i)
    std::fill_n(v.begin() + static_cast<std::ptrdiff_t>(groups[i].second * size), size, kOut);
}

void choose(const RouteAttrs& a, const Doubles& params, Doubles v, Decision& d) {
  const auto K = static_cast<size_t>(a.k_capacity);
  d.chosen.assign(K, -1), d.x.assign(K, 0), d.kept.assign(K, false);
  for (size_t i = 0; i < std::min(K, static_cast<size_t>(params[1])); ++i) {
    const auto best = std::max_element(v.begin(), v.end());
    if (*best == kOut) break;
    const auto e = static_cast<size_t>(best - v.begin());
    d.chosen[i] = static_cast<int>(e), d.x[i] = d.p[e];
    *best = kOut;
  }
  if (a.gating == Gating::kSoftmaxSelected) {
    double top = kOut;
    for (size_t i = 0; i < K; ++i)
      if (d.chosen[i] >= 0) top = std::max(top, d.x[i]);
    for (size_t i = 0; i < K; ++i)
      if (d.chosen[i] >= 0) d.x[i] = std::exp(d.x[i] - top);
  }
  for (size_t i = 0; i < K; ++i) {
    d.kept[i] = d.chosen[i] >= 0 && (i < static_cast<size_t>(params[0]) || params[2] <= 0 || d.x[i] > params[2] * d.x[0]);
    d.all += d.x[i], d.sum += d.kept[i] ? d.x[i] : 0;
  }
  const bool normalize = a.normalize || a.gating == Gating::kSoftmaxSelected;
  d.factor = a.scale * (normalize ? 1 / std::max(d.sum, kSmallestSum) : d.sum > 0 ? d.all / d.sum : 1);
}

void redirect(const std::vector<bool>& allowed, const Doubles& to, Decision& d) {
  const size_t K = d.chosen.size();
  for (size_t i = 0; i < K; ++i) d.ids.push_back(d.kept[i] ? d.chosen[i] : -1), d.moved.push_back(i);
  for (size_t i = 0; i < K; ++i) {
    if (d.ids[i] < 0 || allowed[static_cast<size_t>(d.ids[i])]) continue;
    const int target = static_cast<int>(to[static_cast<size_t>(d.ids[i])]);
    const auto there = std::find(d.ids.begin(), d.ids.end(), target);
    if (there == d.ids.end())
      d.ids[i] = target;
    else
      d.moved[i] = static_cast<size_t>(there - d.ids.begin()), d.ids[i] = -1;
  }
}

Decision decide(const Op64& op, size_t t) {
  const auto& a = op.attrs<RouteAttrs>();
  const auto E = static_cast<size_t>(a.n_experts);
  const Doubles &params = op.in(2), &to = op.in(6);
  std::vector<bool> allowed(E);
  for (size_t e = 0; e < E; ++e) allowed[e] = op.in(3)[static_cast<size_t>(op.in(4)[t]) * E + e] != 0;
  Decision d;
  for (size_t e = 0; e < E; ++e) {
    const bool reachable = allowed[e] || (to[e] >= 0 && allowed[static_cast<size_t>(to[e])]);
    d.usable.push_back(reachable && op.in(0)[t * E + e] > double{kDroppedLogit});
    d.z.push_back(d.usable[e] ? op.in(0)[t * E + e] / params[3] : kOut);
  }
  score(a, d);
  Doubles v(E, kOut);
  for (size_t e = 0; e < E; ++e)
    if (d.usable[e]) v[e] = d.p[e] + (op.has(1) ? op.in(1)[e] : 0) + op.in(5)[e];
  if (a.n_group > 1) limit_groups(a, v);
  choose(a, params, std::move(v), d);
  redirect(allowed, to, d);
  return d;
}

// dL/dz by the derivatives of sums: w_i = factor(all, sum) · x_i.
Doubles weights_gradient(const RouteAttrs& a, const Decision& d, const double* dw) {
  const size_t E = d.z.size(), K = d.x.size();
  double inner = 0;  // Σ dw_i · x_i over slots that are kept
  for (size_t i = 0; i < K; ++i)
    if (d.kept[i]) inner += dw[d.moved[i]] * d.x[i];
  const bool normalize = a.normalize || a.gating == Gating::kSoftmaxSelected;
  const double by_sum =
      normalize ? (d.sum > kSmallestSum ? -a.scale / (d.sum * d.sum) : 0) : -a.scale * d.all / (d.sum * d.sum);
  const double by_all = normalize ? 0 : a.scale / d.sum;
  Doubles dp(E), dz(E);
  for (size_t i = 0; i < K; ++i) {
    if (d.chosen[i] < 0) continue;
    double dx = inner * by_all;
    if (d.kept[i]) dx += d.factor * dw[d.moved[i]] + inner * by_sum;
    dp[static_cast<size_t>(d.chosen[i])] += a.gating == Gating::kSoftmaxSelected ? dx * d.x[i] : dx;
  }
  double mean = 0;
  for (size_t e = 0; e < E; ++e)
    if (d.usable[e]) mean += d.p[e] * dp[e];
  for (size_t e = 0; e < E; ++e) {
    if (!d.usable[e]) continue;
    dz[e] = a.gating == Gating::kSoftmax   ? d.p[e] * (dp[e] - mean)
            : a.gating == Gating::kSigmoid ? d.p[e] * (1 - d.p[e]) * dp[e]
                                           : dp[e];
  }
  return dz;
}

}  // namespace

void route_f64(const Op64& op) {
  const auto K = static_cast<size_t>(op.attrs<RouteAttrs>().k_capacity);
  Doubles &ids = op.out(0), &weights = op.out(1);
  for (size_t t = 0; t < ids.size() / K; ++t) {
    const Decision d = decide(op, t);
    for (size_t i = 0; i < K; ++i) {
      ids[t * K + i] = d.ids[i];
      if (d.kept[i]) weights[t * K + d.moved[i]] += d.factor * d.x[i];
    }
  }
}

void route_grad_f64(const Op64& op) {
  const auto& a = op.attrs<RouteAttrs>();
  const auto E = static_cast<size_t>(a.n_experts), K = static_cast<size_t>(a.k_capacity), T = op.in(0).size() / E;
  const double alpha = op.has(10) ? op.in(10)[0] : 0, beta = op.has(10) ? op.in(10)[1] : 0, n = static_cast<double>(T);
  Doubles &dlogits = op.out(0), &losses = op.out(1);
  Doubles load(E);
  double slots = 0;
  for (const double id : op.in(7))
    if (id >= 0) ++load[static_cast<size_t>(id)], ++slots;
  for (double& l : load) {
    l = slots > 0 ? l / slots : 0;
    losses[2] -= l > 0 ? l * std::log(l) : 0;
  }
  for (size_t t = 0; t < T; ++t) {
    const Decision d = decide(op, t);
    if (std::none_of(d.usable.begin(), d.usable.end(), [](bool u) { return u; })) continue;
    Doubles dz = op.has(9) ? weights_gradient(a, d, op.in(9).data() + t * K) : Doubles(E);
    double exps = 0, scores = 0, mean = 0;
    for (size_t e = 0; e < E; ++e) exps += d.usable[e] ? std::exp(d.z[e]) : 0, scores += d.usable[e] ? d.p[e] : 0;
    const double lse = std::log(exps);
    Doubles share(E);
    for (size_t e = 0; e < E; ++e) {
      if (!d.usable[e]) continue;
      share[e] = a.gating == Gating::kSigmoid ? d.p[e] / scores : std::exp(d.z[e]) / exps;
      mean += share[e] * load[e];
    }
    losses[0] += static_cast<double>(E) * mean / n, losses[1] += lse * lse / n;
    for (size_t e = 0; e < E; ++e) {
      if (!d.usable[e]) continue;
      const double slope = a.gating == Gating::kSigmoid ? 1 - d.p[e] : 1;  // share' = share · slope · (1 at e − …)
      dz[e] += alpha * static_cast<double>(E) / n * share[e] * slope * (load[e] - mean);
      dz[e] += beta * 2 * lse / n * std::exp(d.z[e]) / exps;
      dlogits[t * E + e] = dz[e] / op.in(2)[3];
    }
  }
}

}  // namespace moe::test

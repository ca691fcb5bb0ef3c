// The route op against a plain implementation of the rules in tensor/ops/route_op.cpp, over random cases, and with logits that
// are no numbers.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/rng.h"
#include "tests/backends/cpu/op_fixture.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

constexpr double kNever = -std::numeric_limits<double>::infinity();

struct Case {
  RouteAttrs attrs;
  int64_t n_tokens = 1, n_classes = 1;
  int k_min = 1, k_max = 1;
  float threshold = 0, temperature = 1;
  std::vector<float> logits, selection_bias, bias;
  std::vector<int8_t> allow;
  std::vector<int32_t> token_class, redirect, place;
};

struct Slot {
  int id = -1;
  double weight = 0;
};

struct Plain {
  std::vector<Slot> slots;
  bool close = false;  // two decisions so near that rounding may settle them otherwise
};

Plain plain_route(const Case& c, int64_t t) {
  const auto E = static_cast<size_t>(c.attrs.n_experts);
  const int8_t* allow = c.allow.data() + static_cast<size_t>(c.token_class[static_cast<size_t>(t)]) * E;
  std::vector<bool> usable(E);
  std::vector<double> p(E, kNever), v(E, kNever);
  for (size_t e = 0; e < E; ++e) {
    usable[e] = allow[e] || (c.redirect[e] >= 0 && allow[c.redirect[e]]);
    if (usable[e]) p[e] = double{c.logits[static_cast<size_t>(t) * E + e]} / c.temperature;
  }
  if (c.attrs.gating == Gating::kSoftmax) {
    const double top = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& x : p) x = std::exp(x - top), sum += x;
    for (double& x : p) x /= sum;
  } else if (c.attrs.gating == Gating::kSigmoid) {
    for (double& x : p) x = 1 / (1 + std::exp(-x));
  }
  for (size_t e = 0; e < E; ++e)
    if (usable[e]) v[e] = p[e] + (c.selection_bias.empty() ? 0 : c.selection_bias[e]) + c.bias[e];

  Plain result;
  const auto G = static_cast<size_t>(c.attrs.n_group), size = E / G;
  if (G > 1) {
    std::vector<double> score(G);
    for (size_t g = 0; g < G; ++g) {
      std::vector<double> best(v.begin() + static_cast<std::ptrdiff_t>(g * size),
                               v.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
      std::sort(best.rbegin(), best.rend());
      score[g] = best[0];
      if (c.attrs.group_top > 1 && best.size() > 1 && best[1] != kNever) score[g] += best[1];
    }
    std::vector<size_t> order(G);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return score[a] > score[b]; });
    const auto kept = static_cast<size_t>(c.attrs.topk_group);
    if (kept < G && std::fabs(score[order[kept - 1]] - score[order[kept]]) < 1e-6) result.close = true;
    for (size_t i = kept; i < G; ++i) std::fill_n(v.begin() + static_cast<std::ptrdiff_t>(order[i] * size), size, kNever);
  }
  std::vector<size_t> order(E);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return v[a] > v[b]; });
  std::vector<Slot> slots(static_cast<size_t>(c.attrs.k_capacity));
  for (size_t i = 0; i < static_cast<size_t>(c.k_max) && v[order[i]] != kNever; ++i) {
    slots[i] = {static_cast<int>(order[i]), p[order[i]]};
    if (i + 1 < E && std::fabs(v[order[i]] - v[order[i + 1]]) < 1e-6) result.close = true;
  }
  if (c.attrs.gating == Gating::kSoftmaxSelected) {
    double top = kNever;
    for (const Slot& s : slots)
      if (s.id >= 0) top = std::max(top, s.weight);
    for (Slot& s : slots)
      if (s.id >= 0) s.weight = std::exp(s.weight - top);
  }
  double all = 0, kept = 0;
  for (const Slot& s : slots) all += s.weight;
  const double bar = c.threshold * slots[0].weight;
  for (size_t i = static_cast<size_t>(c.k_min); i < slots.size() && c.threshold > 0; ++i) {
    if (slots[i].id >= 0 && std::fabs(slots[i].weight - bar) < 1e-6) result.close = true;
    if (!(slots[i].weight > bar)) slots[i] = {};
  }
  for (const Slot& s : slots) kept += s.weight;
  const bool normalize = c.attrs.normalize || c.attrs.gating == Gating::kSoftmaxSelected;
  for (Slot& s : slots) s.weight *= c.attrs.scale * (kept <= 0 ? 1 : normalize ? 1 / kept : all / kept);
  // One after another: an expert that a redirect has brought in counts as there.
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].id < 0 || allow[slots[i].id]) continue;
    const int target = c.redirect[static_cast<size_t>(slots[i].id)];
    const auto there = std::find_if(slots.begin(), slots.end(), [&](const Slot& s) { return s.id == target; });
    if (there == slots.end()) {
      slots[i].id = target;
    } else {
      there->weight += slots[i].weight;
      slots[i] = {};
    }
  }
  result.slots = std::move(slots);
  return result;
}

std::vector<std::vector<float>> run_route(const Case& c, const OpRun& run) {
  const int64_t E = c.attrs.n_experts;
  std::vector<OpArgument> arguments = {
      floats({kTokens, E}, c.logits),
      c.selection_bias.empty() ? absent() : weights({E}, c.selection_bias),
      floats({8}, {static_cast<float>(c.k_min), static_cast<float>(c.k_max), c.threshold, c.temperature, 0, 0, 0, 0}),
      bytes({c.n_classes, E}, c.allow),
      ints({kTokens}, c.token_class),
      floats({E}, c.bias),
      ints({E}, c.redirect),
      absent(),
      c.place.empty() ? absent() : ints({E}, c.place)};
  return run_op(Op::kRoute, arguments, c.attrs, run);
}

int between(Rng& rng, int low, int high) {
  return low + static_cast<int>(rng.below(static_cast<uint64_t>(high) - static_cast<uint64_t>(low) + 1));
}

Case random_case(uint64_t seed) {
  Rng rng(seed);
  Case c;
  const int sizes[] = {1, 2, 4, 8, 16, 60, 64, 128, 256, 1000};
  const int E = sizes[rng.below(std::size(sizes))];
  c.attrs.n_experts = E;
  c.attrs.gating = static_cast<Gating>(rng.below(3));
  c.attrs.normalize = rng.below(2), c.attrs.scale = rng.below(2) ? 2.5f : 1.0f;
  if (E % 4 == 0 && rng.below(3) == 0)
    c.attrs.n_group = 4, c.attrs.topk_group = between(rng, 1, 4), c.attrs.group_top = between(rng, 1, 2);
  const int reachable = static_cast<int>(E / c.attrs.n_group * c.attrs.topk_group);
  c.k_max = seed % 20 == 19 ? 0 : between(rng, 1, std::min(reachable, 12));
  c.k_min = between(rng, std::min(1, c.k_max), c.k_max);
  c.attrs.k_capacity = between(rng, std::max(1, c.k_max), std::min(E, c.k_max + 2));
  if (rng.below(2)) c.threshold = rng.uniform();
  if (rng.below(3) == 0) c.temperature = 0.5f + rng.uniform();
  c.n_classes = between(rng, 1, 3), c.n_tokens = between(rng, 1, 9);
  c.logits = normals(static_cast<size_t>(c.n_tokens * E), seed, 2);
  c.bias = rng.below(2) ? normals(static_cast<size_t>(E), seed + 1, 0.1f) : std::vector<float>(static_cast<size_t>(E), 0.0f);
  if (c.attrs.gating != Gating::kSoftmaxSelected && rng.below(2))
    c.selection_bias = normals(static_cast<size_t>(E), seed + 2, 0.1f);
  c.allow.assign(static_cast<size_t>(c.n_classes * E), 1);
  c.redirect.assign(static_cast<size_t>(E), -1);
  if (rng.below(2) && E >= 8)
    for (int i = 0; i < E / 4; ++i) {
      const int e = between(rng, 0, E / 2 - 1);
      for (int64_t k = 0; k < c.n_classes; ++k) c.allow[static_cast<size_t>(k * E + e)] = 0;
      if (rng.below(2)) c.redirect[static_cast<size_t>(e)] = between(rng, E / 2, E - 1);
    }
  for (int64_t t = 0; t < c.n_tokens; ++t) c.token_class.push_back(between(rng, 0, static_cast<int>(c.n_classes) - 1));
  return c;
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("route decides as the plain rules do: 400 random cases of gating, groups, bias, masks, redirects and thresholds") {
  for (const std::string& isa : runnable_isas()) {
    int compared = 0;
    for (uint64_t seed = 0; seed < 400; ++seed) {
      CAPTURE(isa);
      CAPTURE(seed);
      const Case c = random_case(seed);
      const OpRun run{isa, 1 + static_cast<int>(seed % 3), true, false, c.n_tokens, 1};
      const auto found = run_route(c, run);
      const auto K = static_cast<size_t>(c.attrs.k_capacity);
      for (int64_t t = 0; t < c.n_tokens; ++t) {
        const Plain wanted = plain_route(c, t);
        if (wanted.close) continue;
        ++compared;
        bool ids_equal = true, weights_equal = true;
        for (size_t s = 0; s < K; ++s) {
          const size_t i = static_cast<size_t>(t) * K + s;
          ids_equal = ids_equal && found[0][i] == static_cast<float>(wanted.slots[s].id);
          weights_equal = weights_equal && std::fabs(found[1][i] - wanted.slots[s].weight) < 1e-5;
        }
        CHECK(ids_equal);
        CHECK(weights_equal);
      }
    }
    CHECK(compared > 1000);
  }
}

TEST_CASE("equal scores go to the lower id") {
  Case c;
  c.attrs.n_experts = 9, c.attrs.k_capacity = 4, c.k_min = c.k_max = 4;
  c.logits = {0, 1, 1, 0, 1, 1, 1, 0, 1}, c.bias.assign(9, 0), c.allow.assign(9, 1), c.redirect.assign(9, -1);
  c.token_class = {0};
  for (const Gating gating : {Gating::kSoftmax, Gating::kSigmoid, Gating::kSoftmaxSelected}) {
    c.attrs.gating = gating;
    CHECK(run_route(c, OpRun{})[0] == std::vector<float>{1, 2, 4, 5});
  }
}

TEST_CASE("with places, ids say where an expert's weights are, behind all redirects, and nothing else changes") {
  for (const std::string& isa : runnable_isas())
    for (uint64_t seed = 0; seed < 50; ++seed) {
      CAPTURE(seed);
      Case c = random_case(seed);
      const OpRun run{isa, 1 + static_cast<int>(seed % 3), true, false, c.n_tokens, 1};
      const auto plain = run_route(c, run);
      for (int64_t e = 0; e < c.attrs.n_experts; ++e) c.place.push_back(static_cast<int32_t>(c.attrs.n_experts - 1 - e));
      const auto placed = run_route(c, run);
      for (size_t i = 0; i < plain[0].size(); ++i)
        CHECK(placed[0][i] == (plain[0][i] < 0 ? -1 : static_cast<float>(c.attrs.n_experts - 1) - plain[0][i]));
      CHECK(placed[1] == plain[1]);
    }
}

TEST_CASE("logits that are NaN or infinite give ids in range and no crash") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const std::string& isa : runnable_isas())
    for (const Gating gating : {Gating::kSoftmax, Gating::kSigmoid, Gating::kSoftmaxSelected})
      for (const int64_t groups : {1, 4})
        for (const std::vector<float>& bad :
             {std::vector<float>(8, nan), std::vector<float>(8, inf), std::vector<float>(8, -inf),
              std::vector<float>{1, nan, 2, inf, 3, -inf, 0, nan}}) {
          Case c;
          c.attrs.n_experts = 8, c.attrs.k_capacity = 3, c.attrs.gating = gating, c.attrs.normalize = true;
          c.attrs.n_group = groups, c.attrs.topk_group = groups > 1 ? 2 : 1;
          c.k_min = 1, c.k_max = 3, c.threshold = 0.1f;
          c.logits = bad, c.bias.assign(8, 0), c.allow.assign(8, 1), c.redirect.assign(8, -1), c.token_class = {0};
          const auto found = run_route(c, {isa, 2, true, false, 1, 1});
          for (const float id : found[0]) CHECK((id >= -1 && id < 8));
          for (size_t i = 0; i < 3; ++i)
            for (size_t j = 0; j < i; ++j) CHECK((found[0][i] < 0 || found[0][i] != found[0][j]));
        }
}

TEST_SUITE_END();

}  // namespace moe

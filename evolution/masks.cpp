#include "evolution/masks.h"

#include <algorithm>
#include <numeric>

#include "core/check.h"

namespace moe {
namespace {

using Shape = RoutingShape::Layer;
using Words = std::vector<uint64_t>;

bool limited(const Shape& layer) { return layer.n_group > 1 && layer.topk_group < layer.n_group; }

// How many of the experts before e are in the mask.
int bits_below(Bits mask, int e) {
  const auto whole = static_cast<size_t>(e) / 64;
  const int n = count_bits(mask.first(whole));
  return e % 64 == 0 ? n : n + std::popcount(mask[whole] & ((uint64_t{1} << (e % 64)) - 1));
}

std::vector<int> group_counts(Bits mask, const Shape& layer) {
  std::vector<int> counts(static_cast<size_t>(layer.n_group), 0);
  const int length = std::max(1, layer.n_experts / layer.n_group);
  for (int g = 0; g < layer.n_group; ++g) {
    const int end = g + 1 < layer.n_group ? (g + 1) * length : layer.n_experts;
    counts[static_cast<size_t>(g)] = bits_below(mask, end) - bits_below(mask, g * length);
  }
  return counts;
}

Words usable(const LayerGene& gene, int c) {
  const Bits row = gene.row(c);
  Words all(row.begin(), row.end());
  for (const LayerGene::Redirect& r : gene.redirect) set_bit(all, r.from, true);
  return all;
}

bool any(Bits bits) {
  return std::any_of(bits.begin(), bits.end(), [](uint64_t w) { return w != 0; });
}

}  // namespace

int guaranteed(Bits mask, const Shape& layer) {
  if (!limited(layer)) return count_bits(mask);
  std::vector<int> counts = group_counts(mask, layer);
  std::erase(counts, 0);
  std::sort(counts.begin(), counts.end());
  counts.resize(std::min(counts.size(), static_cast<size_t>(std::max(1, layer.topk_group))));
  return std::accumulate(counts.begin(), counts.end(), 0);
}

int guaranteed(const LayerGene& gene, int c, const Shape& layer) {
  return gene.redirect.empty() ? guaranteed(gene.row(c), layer) : guaranteed(usable(gene, c), layer);
}

int guaranteed_of_all(const LayerGene& gene, const Shape& layer) {
  int least = gene.n_experts;
  for (int c = 0; c < gene.n_classes; ++c)
    least = std::min({least, guaranteed(gene.row(c), layer), guaranteed(gene, c, layer)});
  return least;
}

Words everyone(int n_experts) {
  Words all((static_cast<size_t>(n_experts) + 63) / 64, ~uint64_t{0});
  if (n_experts % 64 != 0) all.back() = (uint64_t{1} << (n_experts % 64)) - 1;
  return all;
}

Words both(Bits a, Bits b) {
  Words r(a.begin(), a.end());
  for (size_t i = 0; i < r.size(); ++i) r[i] &= b[i];
  return r;
}

Words without(Bits a, Bits b) {
  Words r(a.begin(), a.end());
  for (size_t i = 0; i < r.size(); ++i) r[i] &= ~b[i];
  return r;
}

bool covers(Bits all, Bits some) {
  for (size_t i = 0; i < some.size(); ++i)
    if (some[i] & ~all[i]) return false;
  return true;
}

Words next_to_add(Bits mask, const Shape& layer) {
  Words rest = without(everyone(layer.n_experts), mask);
  if (!limited(layer)) return rest;
  const std::vector<int> counts = group_counts(mask, layer);
  const int length = std::max(1, layer.n_experts / layer.n_group);
  int smallest = -1;
  for (int g = 0; g < layer.n_group; ++g) {
    const int n = counts[static_cast<size_t>(g)];
    if (n > 0 && n < length && (smallest < 0 || n < counts[static_cast<size_t>(smallest)])) smallest = g;
  }
  if (smallest < 0) return rest;
  for (int e = 0; e < layer.n_experts; ++e)
    if (e / length != smallest) set_bit(rest, e, false);
  return rest;
}

int nth_bit(Bits bits, int n) {
  for (size_t i = 0; i < bits.size(); ++i) {
    const int here = std::popcount(bits[i]);
    if (n >= here) {
      n -= here;
      continue;
    }
    uint64_t w = bits[i];
    for (; n > 0; --n) w &= w - 1;
    return static_cast<int>(i) * 64 + std::countr_zero(w);
  }
  MOE_CHECK(false);  // fewer bits are set
}

int pick(Bits from, std::span<const float> saliency, Prefer prefer, Rng& rng) {
  const auto n = static_cast<uint64_t>(count_bits(from));
  const int a = nth_bit(from, static_cast<int>(rng.below(n)));
  if (saliency.empty()) return a;
  const int b = nth_bit(from, static_cast<int>(rng.below(n)));
  const bool a_more = saliency[static_cast<size_t>(a)] >= saliency[static_cast<size_t>(b)];
  return a_more == (prefer == Prefer::kMissed) ? a : b;
}

Words redirect_targets(const LayerGene& gene, int e) {
  Words targets = everyone(gene.n_experts);
  bool masked = false;
  for (int c = 0; c < gene.n_classes; ++c) {
    if (has_bit(gene.row(c), e)) continue;
    masked = true;
    targets = both(targets, gene.row(c));
  }
  if (!masked) return Words(gene.words(), 0);
  set_bit(targets, e, false);
  return targets;
}

bool drop_stale_redirects(LayerGene& gene, const Shape& layer) {
  const size_t before = gene.redirect.size();
  std::erase_if(gene.redirect, [&](const LayerGene::Redirect& r) { return !has_bit(redirect_targets(gene, r.from), r.to); });
  while (limited(layer) && !gene.redirect.empty() && guaranteed_of_all(gene, layer) < gene.k_max) gene.redirect.pop_back();
  return gene.redirect.size() != before;
}

bool fill_class(LayerGene& gene, int c, int k, const Shape& layer, std::span<const float> saliency, Rng& rng) {
  while (guaranteed(std::as_const(gene).row(c), layer) < k) {
    const Words candidates = next_to_add(std::as_const(gene).row(c), layer);
    if (!any(candidates)) return false;
    const Words kept_anyway = both(candidates, gene.kept());
    set_bit(gene.row(c), pick(any(kept_anyway) ? kept_anyway : candidates, saliency, Prefer::kMissed, rng), true);
  }
  return true;
}

bool remove_expert(LayerGene& gene, int e, const Shape& layer, std::span<const float> saliency, Rng& rng) {
  const std::vector<uint64_t> before = gene.keep;
  const int n = count_bits(gene.kept());
  for (int c = 0; c < gene.n_classes; ++c) set_bit(gene.row(c), e, false);
  bool ok = true;
  for (int c = 0; c < gene.n_classes && ok; ++c) ok = fill_class(gene, c, gene.k_max, layer, saliency, rng);
  if (ok && count_bits(gene.kept()) == n - 1) {
    drop_stale_redirects(gene, layer);
    return true;
  }
  gene.keep = before;
  return false;
}

bool add_expert(LayerGene& gene, int e, const Shape& layer) {
  bool added = false;
  for (int c = 0; c < gene.n_classes; ++c) {
    set_bit(gene.row(c), e, true);
    const bool enough = guaranteed(std::as_const(gene).row(c), layer) >= gene.k_max;
    if (!enough) set_bit(gene.row(c), e, false);
    added = added || enough;
  }
  if (added) drop_stale_redirects(gene, layer);
  return added;
}

}  // namespace moe

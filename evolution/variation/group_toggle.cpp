// Experts that are used together leave or come together. Where the number of kept experts is limited, others of the layer come
// or leave in exchange.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

std::vector<uint64_t> bits_of(std::span<const int32_t> ids, size_t words) {
  std::vector<uint64_t> bits(words, 0);
  for (const int32_t e : ids) set_bit(bits, e, true);
  return bits;
}

// All of `leave` go, all of `come` are there for every class.
bool exchange(LayerGene& g, Bits leave, Bits come, const RoutingShape::Layer& shape, std::span<const float> saliency,
              Rng& rng) {
  for (int c = 0; c < g.n_classes; ++c) {
    const std::span<uint64_t> row = g.row(c);
    for (size_t w = 0; w < row.size(); ++w) row[w] = (row[w] & ~leave[w]) | come[w];
  }
  for (int c = 0; c < g.n_classes; ++c) {
    // Classes are filled from what the layer keeps: nobody who left comes back.
    if (!fill_class(g, c, g.k_max, shape, saliency, rng) || !is_empty(both(g.row(c), leave))) return false;
  }
  drop_stale_redirects(g, shape);
  return guaranteed_of_all(g, shape) >= g.k_max;
}

// n experts of `from`, one pick after another.
std::vector<uint64_t> pick_some(std::vector<uint64_t> from, int n, std::span<const float> saliency, Prefer prefer, Rng& rng) {
  std::vector<uint64_t> some(from.size(), 0);
  for (; n > 0; --n) {
    const int e = pick(from, saliency, prefer, rng);
    set_bit(from, e, false);
    set_bit(some, e, true);
  }
  return some;
}

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const auto& groups = space.guides().groups;
  const int i =
      draw_layer(space, rng, [&](int l) { return !gene_at(draft, l).skipped() && !groups[static_cast<size_t>(l)].empty(); });
  if (i < 0) return false;
  const auto& of_layer = groups[static_cast<size_t>(i)];
  LayerGene g = gene_at(draft, i);
  const std::vector<uint64_t> group = bits_of(of_layer[rng.below(of_layer.size())], g.words()), kept = g.kept();
  const std::vector<uint64_t> others = without(kept, group), outside = without(without(everyone(g.n_experts), kept), group);
  std::vector<uint64_t> come = without(group, kept), leave(g.words(), 0);
  if (is_empty(come)) leave = without(group, space.protect(i));  // all are there: they go
  if (is_empty(come) && is_empty(leave)) return false;
  const std::span<const float> saliency = space.saliency(i);
  if (space.constraints().kept || is_empty(others)) {
    const int n_leave = count_bits(come), n_come = count_bits(leave);
    const std::vector<uint64_t> may_leave = without(others, space.protect(i));
    if (n_leave > count_bits(may_leave) || n_come > count_bits(outside)) return false;
    if (n_come > 0) come = pick_some(outside, n_come, saliency, Prefer::kMissed, rng);
    if (n_leave > 0) leave = pick_some(may_leave, n_leave, saliency, Prefer::kUnmissed, rng);
  }
  const int wanted = count_bits(kept) + count_bits(come) - count_bits(leave);
  if (wanted < std::max(g.k_max, space.constraints().kept_low)) return false;
  if (!exchange(g, leave, come, space.shape(i), saliency, rng) || g.n_kept() != wanted) return false;
  draft.edit(i) = std::move(g);
  return true;
}

}  // namespace

MutationOp group_toggle() {
  return {.name = "group_toggle",
          .help = "experts that are used together leave or come together",
          .changes = kFieldMasks | kFieldRedirect,
          .usable =
              [](const SearchSpace& s) {
                const auto& groups = s.guides().groups;
                return std::any_of(groups.begin(), groups.end(), [](const auto& layer) { return !layer.empty(); });
              },
          .apply = apply};
}

}  // namespace moe

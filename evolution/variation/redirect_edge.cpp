// Tokens that select a masked expert are sent to another one, or no longer: an edge of the expert graph is drawn, moved or
// removed.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

constexpr uint64_t kNoneOneIn = 3;

// Experts that some class masks and that have somebody to stand in for them.
std::vector<uint64_t> sources(const LayerGene& g) {
  std::vector<uint64_t> from(g.words(), 0);
  for (int e = 0; e < g.n_experts; ++e) set_bit(from, e, !is_empty(redirect_targets(g, e)));
  return from;
}

std::vector<uint64_t> masked_somewhere(const LayerGene& g) {
  std::vector<uint64_t> everywhere = everyone(g.n_experts);
  for (int c = 0; c < g.n_classes; ++c) everywhere = both(everywhere, g.row(c));
  return without(everyone(g.n_experts), everywhere);
}

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const int i = draw_layer(
      space, rng, [&](int l) { return !gene_at(draft, l).skipped() && !is_empty(masked_somewhere(gene_at(draft, l))); });
  if (i < 0) return false;
  LayerGene g = gene_at(draft, i);
  const std::vector<uint64_t> from = sources(g);
  if (is_empty(from)) return false;
  const int e = pick(from, space.saliency(i), Prefer::kMissed, rng), now = g.redirect_of(e);
  std::vector<uint64_t> to = redirect_targets(g, e);
  if (now >= 0) set_bit(to, now, false);
  const bool none = now >= 0 && (is_empty(to) || rng.below(kNoneOneIn) == 0);
  if (!none && is_empty(to)) return false;
  g.set_redirect(e, none ? -1 : pick(to, space.saliency(i), Prefer::kMissed, rng));
  if (guaranteed_of_all(g, space.shape(i)) < g.k_max) return false;  // a stand-in in a group of few
  draft.edit(i) = std::move(g);
  return true;
}

}  // namespace

MutationOp redirect_edge() {
  return {.name = "redirect_edge",
          .help = "another expert stands in for a masked one, or none",
          .changes = kFieldRedirect,
          .usable = always,
          .apply = apply};
}

}  // namespace moe

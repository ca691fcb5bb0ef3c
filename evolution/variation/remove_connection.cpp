// One class of tokens may use one expert fewer. Where the budget of kept experts may not shrink, only one that another class
// keeps.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

// Experts of class c that no other class keeps.
std::vector<uint64_t> alone(const LayerGene& g, int c) {
  const Bits row = g.row(c);
  std::vector<uint64_t> left(row.begin(), row.end());
  for (int other = 0; other < g.n_classes; ++other)
    if (other != c) left = without(left, g.row(other));
  return left;
}

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const bool may_keep_fewer = slack_of(space.constraints().kept, totals_of(draft, space).kept).down > 0;
  const auto candidates = [&](int l, int c) {
    const LayerGene& g = gene_at(draft, l);
    std::vector<uint64_t> from = without(g.row(c), space.protect(l));
    if (!may_keep_fewer || g.n_kept() <= space.constraints().kept_low) from = without(from, alone(g, c));
    return count_bits(g.row(c)) > g.k_max ? from : std::vector<uint64_t>(g.words(), 0);
  };
  const int i = draw_layer(space, rng, [&](int l) {
    const LayerGene& g = gene_at(draft, l);
    if (g.skipped()) return false;
    for (int c = 0; c < g.n_classes; ++c)
      if (!is_empty(candidates(l, c))) return true;
    return false;
  });
  if (i < 0) return false;
  LayerGene g = gene_at(draft, i);
  const auto c = static_cast<int>(rng.below(static_cast<uint64_t>(g.n_classes)));
  const std::vector<uint64_t> from = candidates(i, c);
  if (is_empty(from)) return false;
  set_bit(g.row(c), pick(from, space.saliency(i), Prefer::kUnmissed, rng), false);
  drop_stale_redirects(g, space.shape(i));
  if (guaranteed(std::as_const(g).row(c), space.shape(i)) < g.k_max) return false;
  draft.edit(i) = std::move(g);
  return true;
}

}  // namespace

MutationOp remove_connection() {
  return {.name = "remove_connection",
          .help = "a class of tokens may use one expert fewer",
          .changes = kFieldMasks | kFieldRedirect,
          .usable = always,
          .apply = apply};
}

}  // namespace moe

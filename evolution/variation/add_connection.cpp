// One class of tokens may use one more expert. Where the budget of kept experts is spent, only one that another class keeps.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const bool may_keep_more = slack_of(space.constraints().kept, totals_of(draft, space).kept).up > 0;
  const auto candidates = [&](const LayerGene& g, int c) {
    return without(may_keep_more ? everyone(g.n_experts) : g.kept(), g.row(c));
  };
  const int i = draw_layer(space, rng, [&](int l) {
    const LayerGene& g = gene_at(draft, l);
    if (g.skipped()) return false;
    for (int c = 0; c < g.n_classes; ++c)
      if (!is_empty(candidates(g, c))) return true;
    return false;
  });
  if (i < 0) return false;
  LayerGene g = gene_at(draft, i);
  const auto c = static_cast<int>(rng.below(static_cast<uint64_t>(g.n_classes)));
  const std::vector<uint64_t> from = candidates(g, c);
  if (is_empty(from)) return false;
  set_bit(g.row(c), pick(from, space.saliency(i), Prefer::kMissed, rng), true);
  drop_stale_redirects(g, space.shape(i));
  if (guaranteed_of_all(g, space.shape(i)) < g.k_max) return false;
  draft.edit(i) = std::move(g);
  return true;
}

}  // namespace

MutationOp add_connection() {
  return {.name = "add_connection",
          .help = "a class of tokens may use one more expert",
          .changes = kFieldMasks | kFieldRedirect,
          .usable = always,
          .apply = apply};
}

}  // namespace moe

// One expert of a layer takes another one's place in every class: the number of kept experts stays.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const auto may_go = [&](int l) { return without(gene_at(draft, l).kept(), space.protect(l)); };
  const auto may_come = [&](int l) { return without(everyone(gene_at(draft, l).n_experts), gene_at(draft, l).kept()); };
  const int i = draw_layer(
      space, rng, [&](int l) { return !gene_at(draft, l).skipped() && !is_empty(may_go(l)) && !is_empty(may_come(l)); });
  if (i < 0) return false;
  const int out = pick(may_go(i), space.saliency(i), Prefer::kUnmissed, rng);
  const int in = pick(may_come(i), space.saliency(i), Prefer::kMissed, rng);
  LayerGene g = gene_at(draft, i);
  for (int c = 0; c < g.n_classes; ++c) {
    if (!has_bit(g.row(c), out)) continue;
    set_bit(g.row(c), out, false);
    set_bit(g.row(c), in, true);
  }
  drop_stale_redirects(g, space.shape(i));
  if (guaranteed_of_all(g, space.shape(i)) < g.k_max) return false;  // groups are limited
  draft.edit(i) = std::move(g);
  return true;
}

}  // namespace

MutationOp rewire_expert() {
  return {.name = "rewire_expert",
          .help = "an expert takes another one's place in all classes",
          .changes = kFieldMasks | kFieldRedirect,
          .usable = always,
          .apply = apply};
}

}  // namespace moe

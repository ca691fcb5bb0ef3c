// One kept expert runs a quarter of its width more or less.
#include "evolution/variation/variation_support.h"

namespace moe {

int narrower(int quarters, const SearchSpace& space, int layer) {
  for (int q = quarters - 1; q >= space.constraints().narrowest; --q)
    if (widest_alike(q, space.shape(layer)) == q) return q;
  return 0;
}

int wider(int quarters, const SearchSpace& space, int layer) {
  return quarters == kQuarters ? 0 : widest_alike(quarters + 1, space.shape(layer));
}

bool any_width_to_choose(const SearchSpace& space) {
  return std::any_of(space.routed().begin(), space.routed().end(), [&](int l) { return narrower(kQuarters, space, l) > 0; });
}

namespace {

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const int i =
      draw_layer(space, rng, [&](int l) { return !gene_at(draft, l).skipped() && narrower(kQuarters, space, l) > 0; });
  if (i < 0) return false;
  const int e = pick(gene_at(draft, i).kept(), {}, Prefer::kMissed, rng);
  const int now = gene_at(draft, i).quarters(e), down = narrower(now, space, i), up = wider(now, space, i);
  const int next = down == 0 || (up > 0 && rng.below(2) == 0) ? up : down;
  if (next == 0) return false;
  draft.edit(i).set_quarters(e, next);
  return true;
}

}  // namespace

MutationOp width_step() {
  return {.name = "width_step",
          .help = "an expert runs a quarter of its width more or less",
          .changes = kFieldWidth,
          .usable = any_width_to_choose,
          .apply = apply};
}

}  // namespace moe

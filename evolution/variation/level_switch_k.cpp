// One layer gives an active expert to another: the sum of all k_max stays.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const int a = draw_layer(space, rng, [&](int l) { return gene_at(draft, l).k_max > space.k_low(l); });
  const int b = draw_layer(space, rng, [&](int l) {
    const LayerGene& g = gene_at(draft, l);
    return l != a && !g.skipped() && g.k_max < std::min(space.k_high(l), guaranteed_of_all(g, space.shape(l)));
  });
  if (a < 0 || b < 0) return false;
  LayerGene& less = draft.edit(a);
  less.k_min = std::min(less.k_min, --less.k_max);
  LayerGene& more = draft.edit(b);
  more.k_min += more.k_min == more.k_max;  // a fixed k stays one
  ++more.k_max;
  return true;
}

}  // namespace

MutationOp level_switch_k() {
  return {.name = "level_switch_k",
          .help = "a layer uses one expert fewer a token, another one more",
          .changes = kFieldK,
          .layers = 2,
          .usable = [](const SearchSpace& s) { return s.routed().size() > 1; },
          .apply = apply};
}

}  // namespace moe

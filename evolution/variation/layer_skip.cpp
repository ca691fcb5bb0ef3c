// The routed experts of one layer are skipped, or come back with the model's own k and the masks that they had.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const int i = draw_layer(space, rng, [&](int l) { return space.may_skip(l); });
  if (i < 0) return false;
  LayerGene& g = draft.edit(i);
  const bool comes_back = g.skipped();
  g.k_max = comes_back ? std::clamp(space.shape(i).k, space.k_low(i), space.k_high(i)) : 0;
  g.k_min = g.k_max;
  return true;
}

}  // namespace

MutationOp layer_skip() {
  return {.name = "layer_skip",
          .help = "the routed experts of a layer are skipped, or come back",
          .changes = kFieldK,
          .usable =
              [](const SearchSpace& s) {
                return std::any_of(s.routed().begin(), s.routed().end(), [&](int l) { return s.may_skip(l); });
              },
          .apply = apply,
          .needs_repair = true};
}

}  // namespace moe

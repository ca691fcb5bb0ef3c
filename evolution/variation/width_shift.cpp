// One kept expert of a layer gives hidden channels to another one: the sum of widths stays.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const auto gather = [&](int l) {
    const LayerGene& g = gene_at(draft, l);
    const std::vector<uint64_t> kept = g.kept();
    std::vector<uint64_t> down(g.words(), 0), up(g.words(), 0);
    for (int e = 0; e < g.n_experts; ++e) {
      if (!has_bit(kept, e)) continue;
      set_bit(down, e, narrower(g.quarters(e), space, l) > 0);
      set_bit(up, e, wider(g.quarters(e), space, l) > 0);
    }
    return std::pair{down, up};
  };
  const int i = draw_layer(space, rng, [&](int l) {
    if (gene_at(draft, l).skipped() || gene_at(draft, l).narrow.empty()) return false;
    const auto [down, up] = gather(l);
    return !is_empty(down) && !is_empty(up);
  });
  if (i < 0) return false;
  const auto [down, up] = gather(i);
  const int a = pick(down, space.saliency(i), Prefer::kUnmissed, rng), b = pick(up, space.saliency(i), Prefer::kMissed, rng);
  if (a == b) return false;
  const LayerGene& g = gene_at(draft, i);
  const int less = narrower(g.quarters(a), space, i), more = wider(g.quarters(b), space, i);
  const RoutingShape::Layer& shape = space.shape(i);
  const auto freed = channels_of(g.quarters(a), shape) - channels_of(less, shape);
  if (freed != channels_of(more, shape) - channels_of(g.quarters(b), shape))
    return false;  // quarters that rounding made uneven
  LayerGene& edited = draft.edit(i);
  edited.set_quarters(a, less);
  edited.set_quarters(b, more);
  return true;
}

}  // namespace

MutationOp width_shift() {
  return {.name = "width_shift",
          .help = "an expert gives a quarter of its width to another one",
          .changes = kFieldWidth,
          .usable = any_width_to_choose,
          .apply = apply};
}

}  // namespace moe

// One layer loses the expert that it misses least, another gets back the one that it misses most, once to three times: the
// budget stays, and which experts a layer keeps is settled by the rank of saliency. The whole mutation of EvoPress (arXiv
// 2410.14649, section 3) over a table of masks; where ranks are right, a search over numbers alone is the shorter one.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

constexpr uint64_t kMostSteps = 3;

// The expert of a set that is not empty with the largest `sign` times saliency, of equals the first.
int outermost(Bits from, std::span<const float> saliency, float sign) {
  int best = -1;
  for (int i = 0; i < count_bits(from); ++i) {
    const int e = nth_bit(from, i);
    if (best < 0 || sign * saliency[static_cast<size_t>(e)] > sign * saliency[static_cast<size_t>(best)]) best = e;
  }
  return best;
}

bool is_ranked(const SearchSpace& space, int layer) { return !space.saliency(layer).empty(); }

bool move_one(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const int a = draw_layer(space, rng, [&](int l) {
    const LayerGene& g = gene_at(draft, l);
    return is_ranked(space, l) && !g.skipped() &&
           g.n_kept() > std::max({space.constraints().kept_low, g.k_max, count_bits(space.protect(l))});
  });
  const int b = draw_layer(space, rng, [&](int l) {
    const LayerGene& g = gene_at(draft, l);
    return is_ranked(space, l) && l != a && !g.skipped() && g.n_kept() < g.n_experts;
  });
  if (a < 0 || b < 0) return false;
  LayerGene from = gene_at(draft, a), to = gene_at(draft, b);
  const std::vector<uint64_t> out = without(from.kept(), space.protect(a)), in = without(everyone(to.n_experts), to.kept());
  if (is_empty(out) || is_empty(in)) return false;
  if (!remove_expert(from, outermost(out, space.saliency(a), -1), space.shape(a), space.saliency(a), rng)) return false;
  if (!add_expert(to, outermost(in, space.saliency(b), 1), space.shape(b))) return false;
  draft.edit(a) = std::move(from);
  draft.edit(b) = std::move(to);
  return true;
}

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  bool moved = false;
  for (uint64_t steps = 1 + rng.below(kMostSteps); steps > 0 && move_one(draft, space, rng); --steps) moved = true;
  return moved;
}

}  // namespace

MutationOp level_switch_ranked() {
  return {.name = "level_switch_ranked",
          .help = "layers lose what they miss least, others get what they miss most, as many",
          .changes = kFieldMasks | kFieldRedirect,
          .layers = 6,
          .usable =
              [](const SearchSpace& s) {
                return std::count_if(s.routed().begin(), s.routed().end(), [&](int l) { return is_ranked(s, l); }) > 1;
              },
          .apply = apply};
}

}  // namespace moe

// One layer keeps one to four experts fewer, another as many more: the budget stays. The mutation of EvoPress (arXiv
// 2410.14649, section 3) and of EvoESAP (arXiv 2603.06003).
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

constexpr uint64_t kMostSteps = 4;

// One expert from one layer to the other; false, and both as they were, where none can go or come.
bool move_one(LayerGene& from, int a, LayerGene& to, int b, const SearchSpace& space, Rng& rng) {
  if (from.n_kept() <= std::max(space.constraints().kept_low, from.k_max)) return false;
  const std::vector<uint64_t> out = without(from.kept(), space.protect(a)), in = without(everyone(to.n_experts), to.kept());
  if (is_empty(out) || is_empty(in)) return false;
  LayerGene smaller = from;
  if (!remove_expert(smaller, pick(out, space.saliency(a), Prefer::kUnmissed, rng), space.shape(a), space.saliency(a), rng))
    return false;
  if (!add_expert(to, pick(in, space.saliency(b), Prefer::kMissed, rng), space.shape(b))) return false;
  from = std::move(smaller);
  return true;
}

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const int a = draw_layer(space, rng, [&](int l) {
    const LayerGene& g = gene_at(draft, l);
    return !g.skipped() && g.n_kept() > std::max({space.constraints().kept_low, g.k_max, count_bits(space.protect(l))});
  });
  const int b = draw_layer(space, rng, [&](int l) {
    const LayerGene& g = gene_at(draft, l);
    return l != a && !g.skipped() && g.n_kept() < g.n_experts;
  });
  if (a < 0 || b < 0) return false;
  LayerGene from = gene_at(draft, a), to = gene_at(draft, b);
  bool moved = false;
  for (uint64_t steps = 1 + rng.below(kMostSteps); steps > 0 && move_one(from, a, to, b, space, rng); --steps) moved = true;
  if (!moved) return false;
  draft.edit(a) = std::move(from);
  draft.edit(b) = std::move(to);
  return true;
}

}  // namespace

MutationOp level_switch_kept() {
  return {.name = "level_switch_kept",
          .help = "a layer keeps 1 to 4 experts fewer, another as many more",
          .changes = kFieldMasks | kFieldRedirect,
          .layers = 2,
          .usable = [](const SearchSpace& s) { return s.routed().size() > 1; },
          .apply = apply};
}

}  // namespace moe

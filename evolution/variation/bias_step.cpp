// One kept expert is selected more or less often: a normal step on its bias, or back to none.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

constexpr uint64_t kNoneOneIn = 4;

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const int i = draw_running_layer(draft, space, rng);
  if (i < 0) return false;
  const std::vector<uint64_t> kept = gene_at(draft, i).kept();
  const int e = nth_bit(kept, static_cast<int>(rng.below(static_cast<uint64_t>(count_bits(kept)))));
  const float now = gene_at(draft, i).bias_of(e), high = space.constraints().bias_high;
  const bool none = now != 0 && rng.below(kNoneOneIn) == 0;
  const float next = none ? 0 : std::clamp(now + space.guides().bias_step * rng.normal(), -high, high);
  if (next == now) return false;
  draft.edit(i).set_bias(e, next);
  return true;
}

}  // namespace

MutationOp bias_step() {
  return {.name = "bias_step",
          .help = "an expert is selected more or less often",
          .changes = kFieldBias,
          .usable = [](const SearchSpace& s) { return s.constraints().bias_high > 0; },
          .apply = apply};
}

}  // namespace moe

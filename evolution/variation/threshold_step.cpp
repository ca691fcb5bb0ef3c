// The threshold of one layer, where it decides anything (k_min < k_max), moves by a log-normal factor; it can be switched off
// and on.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

constexpr float kSmallest = 0.005f, kFirst = 0.1f, kSigma = 0.5f;
constexpr uint64_t kOffOneIn = 10;

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const int i = draw_layer(space, rng, [&](int l) { return gene_at(draft, l).k_min < gene_at(draft, l).k_max; });
  if (i < 0) return false;
  const float now = gene_at(draft, i).threshold;
  const bool off = now > 0 && rng.below(kOffOneIn) == 0;
  float next = off ? 0 : std::min(1.0f, (now > 0 ? now : kFirst) * log_normal(kSigma, rng));
  if (next < kSmallest) next = 0;
  if (next == now) return false;
  draft.edit(i).threshold = next;
  return true;
}

}  // namespace

MutationOp threshold_step() {
  return {.name = "threshold_step",
          .help = "the score below which experts beyond k_min are dropped moves",
          .changes = kFieldThreshold,
          .usable =
              [](const SearchSpace& s) {
                return std::any_of(s.routed().begin(), s.routed().end(), [&](int l) { return s.k_high(l) > 1; });
              },
          .apply = apply};
}

}  // namespace moe

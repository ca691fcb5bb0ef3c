// The temperature of one layer's router moves by a log-normal factor.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

constexpr float kSigma = 0.2f;

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const int i = draw_running_layer(draft, space, rng);
  if (i < 0) return false;
  const Constraints& c = space.constraints();
  const float now = gene_at(draft, i).temperature;
  const float next = std::clamp(now * log_normal(kSigma, rng), c.temperature_low, c.temperature_high);
  if (next == now) return false;
  draft.edit(i).temperature = next;
  return true;
}

}  // namespace

MutationOp temperature_step() {
  return {.name = "temperature_step",
          .help = "a router's temperature moves",
          .changes = kFieldTemperature,
          .usable = [](const SearchSpace& s) { return s.constraints().temperature_low < s.constraints().temperature_high; },
          .apply = apply};
}

}  // namespace moe

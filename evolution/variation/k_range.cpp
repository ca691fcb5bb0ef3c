// k_min or k_max of one layer goes one up or down.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

struct Step {
  int k_min, k_max;
};

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const int i = draw_running_layer(draft, space, rng);
  if (i < 0) return false;
  const LayerGene& g = gene_at(draft, i);
  const Slack slack = slack_of(space.constraints().active, totals_of(draft, space).active);
  const int most = std::min(space.k_high(i), guaranteed_of_all(g, space.shape(i)));
  std::vector<Step> steps;
  if (g.k_min > 1) steps.push_back({g.k_min - 1, g.k_max});
  if (g.k_min < g.k_max) steps.push_back({g.k_min + 1, g.k_max});
  if (g.k_max > space.k_low(i) && slack.down > 0) steps.push_back({std::min(g.k_min, g.k_max - 1), g.k_max - 1});
  if (g.k_max < most && slack.up > 0) steps.push_back({g.k_min == g.k_max ? g.k_min + 1 : g.k_min, g.k_max + 1});
  if (steps.empty()) return false;
  const Step step = steps[rng.below(steps.size())];
  LayerGene& e = draft.edit(i);
  e.k_min = step.k_min, e.k_max = step.k_max;
  return true;
}

}  // namespace

MutationOp k_range() {
  return {.name = "k_range",
          .help = "the fewest or the most experts a token uses change by one",
          .changes = kFieldK,
          .usable = always,
          .apply = apply};
}

}  // namespace moe

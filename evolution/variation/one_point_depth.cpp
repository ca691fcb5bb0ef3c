// The layers below a point come from the mother, those above from the father: neighbours that work together stay together.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

bool apply(GenomeDraft& child, const Genome& father, const SearchSpace& space, Rng& rng) {
  const std::vector<int>& routed = space.routed();
  if (routed.size() < 2) return false;
  const std::vector<int> alike = classes_alike(child.classes(), father.classes->value);
  bool differs = false;
  for (size_t at = 1 + rng.below(routed.size() - 1); at < routed.size(); ++at) {
    differs = differs || gene_at(child, routed[at]) != father.layers[static_cast<size_t>(routed[at])]->value;
    take_layer(child, routed[at], father, alike);
  }
  return differs;
}

}  // namespace

CrossoverOp one_point_depth() {
  return {.name = "one_point_depth",
          .help = "lower layers come from the mother, upper ones from the father",
          .changes = kFieldAll & ~kFieldClasses,
          .apply = apply};
}

}  // namespace moe

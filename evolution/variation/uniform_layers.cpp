// Each layer comes from the mother or the father. Layers are blocks, so that this copies references only.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

bool apply(GenomeDraft& child, const Genome& father, const SearchSpace& space, Rng& rng) {
  const std::vector<int> alike = classes_alike(child.classes(), father.classes->value);
  bool differs = false;
  for (const int i : space.routed()) {
    if (rng.below(2) == 0) continue;
    differs = differs || gene_at(child, i) != father.layers[static_cast<size_t>(i)]->value;
    take_layer(child, i, father, alike);
  }
  return differs;
}

}  // namespace

CrossoverOp uniform_layers() {
  return {.name = "uniform_layers",
          .help = "each layer comes from one of the parents",
          .changes = kFieldAll & ~kFieldClasses,
          .apply = apply};
}

}  // namespace moe

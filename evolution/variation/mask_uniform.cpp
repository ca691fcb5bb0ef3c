// Each expert of each layer is kept or masked, in all classes, as in one of the parents. Everything else is the mother's.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

bool apply(GenomeDraft& child, const Genome& father, const SearchSpace& space, Rng& rng) {
  const std::vector<int> alike = classes_alike(child.classes(), father.classes->value);
  bool differs = false;
  for (const int i : space.routed()) {
    std::vector<uint64_t> his(gene_at(child, i).words());  // experts that come from the father
    for (uint64_t& w : his) w = rng.next_u64();
    std::vector<uint64_t> keep;
    for (int c = 0; c < gene_at(child, i).n_classes; ++c) {
      const Bits mothers = gene_at(child, i).row(c), fathers = row_alike(father, i, c, alike);
      for (size_t w = 0; w < his.size(); ++w) keep.push_back((mothers[w] & ~his[w]) | (fathers[w] & his[w]));
    }
    if (keep == gene_at(child, i).keep) continue;
    child.edit(i).keep = std::move(keep);
    differs = true;
  }
  return differs;
}

}  // namespace

CrossoverOp mask_uniform() {
  return {.name = "mask_uniform",
          .help = "each expert is kept as in one of the parents",
          .changes = kFieldMasks | kFieldRedirect,
          .apply = apply};
}

}  // namespace moe

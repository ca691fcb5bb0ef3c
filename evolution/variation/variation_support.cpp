#include "evolution/variation/variation_support.h"

namespace moe {

std::vector<int> classes_alike(const ClassMap& mother, const ClassMap& father) {
  const auto M = static_cast<size_t>(mother.n_classes), F = static_cast<size_t>(father.n_classes);
  std::vector<int> alike(M);
  if (mother == father) {
    for (size_t c = 0; c < M; ++c) alike[c] = static_cast<int>(c);
    return alike;
  }
  std::vector<int64_t> shared(M * F, 0);
  const size_t n = std::max(mother.token_class.size(), father.token_class.size());
  for (size_t t = 0; t < n; ++t) {
    const size_t m = t < mother.token_class.size() ? mother.token_class[t] : 0;
    const size_t f = t < father.token_class.size() ? father.token_class[t] : 0;
    ++shared[m * F + f];
  }
  for (size_t m = 0; m < M; ++m) {
    const auto row = shared.begin() + static_cast<std::ptrdiff_t>(m * F);
    const auto best = std::max_element(row, row + static_cast<std::ptrdiff_t>(F));
    alike[m] = static_cast<int>(*best > 0 ? static_cast<size_t>(best - row) : std::min(m, F - 1));
  }
  return alike;
}

Bits row_alike(const Genome& father, int layer, int mothers_class, const std::vector<int>& alike) {
  return father.layers[static_cast<size_t>(layer)]->value.row(alike[static_cast<size_t>(mothers_class)]);
}

void take_layer(GenomeDraft& child, int layer, const Genome& father, const std::vector<int>& alike) {
  const LayerRef& block = father.layers[static_cast<size_t>(layer)];
  if (child.classes() == father.classes->value) {
    child.take(layer, block);
    return;
  }
  LayerGene gene = block->value;
  const auto n_classes = static_cast<int>(alike.size());
  gene.n_classes = n_classes;
  gene.keep.clear();
  for (int c = 0; c < n_classes; ++c) {
    const Bits row = row_alike(father, layer, c, alike);
    gene.keep.insert(gene.keep.end(), row.begin(), row.end());
  }
  child.edit(layer) = std::move(gene);
}

}  // namespace moe

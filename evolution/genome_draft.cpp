#include "evolution/genome_draft.h"

#include <algorithm>

namespace moe {

GenomeDraft::GenomeDraft(const Genome& mother)
    : layers_(mother.layers), edits_(mother.layers.size()), classes_(mother.classes) {}

const LayerGene& GenomeDraft::layer(int i) const {
  const auto at = static_cast<size_t>(i);
  return edits_[at] ? *edits_[at] : layers_[at]->value;
}

LayerGene& GenomeDraft::edit(int i) {
  const auto at = static_cast<size_t>(i);
  if (!edits_[at]) edits_[at] = std::make_unique<LayerGene>(layers_[at]->value);
  return *edits_[at];
}

void GenomeDraft::take(int i, const LayerRef& block) {
  const auto at = static_cast<size_t>(i);
  layers_[at] = block;
  edits_[at].reset();
}

ClassMap& GenomeDraft::edit_classes() {
  if (!class_edit_) class_edit_ = std::make_unique<ClassMap>(classes_->value);
  return *class_edit_;
}

Genome GenomeDraft::finish(GenePool& pool, Lineage lineage) const {
  Genome g;
  g.classes = classes_;
  if (class_edit_) {
    ClassMap classes = *class_edit_;
    const auto is_zero = [](uint8_t c) { return c == 0; };
    if (std::all_of(classes.token_class.begin(), classes.token_class.end(), is_zero)) classes.token_class.clear();
    g.classes = pool.intern(std::move(classes));
  }
  g.layers = layers_;
  for (size_t i = 0; i < edits_.size(); ++i)
    if (edits_[i]) g.layers[i] = pool.intern(*edits_[i]);
  g.lineage = std::move(lineage);
  return g;
}

}  // namespace moe

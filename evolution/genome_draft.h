// A genome being made: its mother's blocks until they are edited. Not thread-safe, one a child.
#pragma once

#include <memory>
#include <vector>

#include "evolution/genome.h"

namespace moe {

class GenomeDraft {
 public:
  explicit GenomeDraft(const Genome& mother);

  int n_layers() const { return static_cast<int>(layers_.size()); }
  const LayerGene& layer(int i) const;
  LayerGene& edit(int i);                   // a copy of its own from the first call on
  void take(int i, const LayerRef& block);  // the layer of another genome of the same classes

  const ClassMap& classes() const { return class_edit_ ? *class_edit_ : classes_->value; }
  ClassMap& edit_classes();  // who changes n_classes changes it in every layer

  Genome finish(GenePool& pool, Lineage lineage) const;

 private:
  std::vector<LayerRef> layers_;
  std::vector<std::unique_ptr<LayerGene>> edits_;  // (n_layers) null: as in layers_
  ClassRef classes_;
  std::unique_ptr<ClassMap> class_edit_;
};

}  // namespace moe

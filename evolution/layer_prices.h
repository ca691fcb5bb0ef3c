// Errors and loads of single layers, each asked of the Gram cache once: most layers of a child are its parents'.
#pragma once

#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "evolution/gram_evaluator.h"

namespace moe {

// Equal for layers that route alike whatever the rest of the genome: classes count only where they are treated differently.
uint64_t layer_key(const Interned<LayerGene>& layer, const Interned<ClassMap>& classes);

// Of LayerError, what is needed.
struct LayerPrice {
  double length = 0, k_mean = 0, work_mean = 0;
  std::vector<uint32_t> load;  // (E)
};

// Not thread-safe; uses the pool's threads. Cache and pool must outlive it.
class LayerPrices {
 public:
  using Price = std::shared_ptr<const LayerPrice>;  // shared: a price in use outlives its place in memory

  // At most about `memo_bytes` are remembered.
  LayerPrices(const GramCache& cache, GramPool& pool, size_t memo_bytes);

  // prices (genomes, n layers), null for dense layers. remembered: how many of the genomes asked for nothing new.
  Status price(std::span<const Genome> genomes, std::vector<Price>& prices, uint64_t& remembered);

 private:
  Price find(uint64_t key);
  void remember(uint64_t key, Price price);
  size_t classes_of(const ClassRef& classes, std::vector<ClassRef>& seen, std::vector<SampleClasses>& sample) const;

  const GramCache& cache_;
  GramPool& pool_;
  const size_t half_bytes_;
  // What is full becomes the older half and the older half goes; what is found there moves over.
  std::unordered_map<uint64_t, Price> young_, old_;
  size_t young_bytes_ = 0;
};

}  // namespace moe

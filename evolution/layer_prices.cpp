#include "evolution/layer_prices.h"

#include <algorithm>

#include "core/check.h"
#include "evolution/hash_chain.h"

namespace moe {
namespace {

size_t bytes_of(const LayerPrice& p) { return sizeof p + 64 + p.load.size() * sizeof(uint32_t); }

LayerPrice price_of(LayerError e) { return {e.length, e.k_mean, e.work_mean, std::move(e.load)}; }

}  // namespace

uint64_t layer_key(const Interned<LayerGene>& layer, const Interned<ClassMap>& classes) {
  const LayerGene& g = layer.value;
  if (g.n_experts == 0 || g.n_classes <= 1) return layer.hash;
  for (int c = 1; c < g.n_classes; ++c)
    if (!std::equal(g.row(c).begin(), g.row(c).end(), g.row(0).begin())) return chained(layer.hash, classes.hash);
  LayerGene one = g;
  one.n_classes = 1, one.keep.resize(one.words());
  return hash(one);
}

LayerPrices::LayerPrices(const GramCache& cache, GramPool& pool, size_t memo_bytes)
    : cache_(cache), pool_(pool), half_bytes_(memo_bytes / 2) {}

LayerPrices::Price LayerPrices::find(uint64_t key) {
  if (const auto i = young_.find(key); i != young_.end()) return i->second;
  const auto i = old_.find(key);
  if (i == old_.end()) return nullptr;
  Price p = i->second;
  remember(key, p);
  return p;
}

void LayerPrices::remember(uint64_t key, Price price) {
  young_bytes_ += bytes_of(*price);
  young_[key] = std::move(price);
  if (young_bytes_ <= half_bytes_) return;
  old_ = std::move(young_);
  young_.clear(), young_bytes_ = 0;
}

// Index of the sample's classes under this map.
size_t LayerPrices::classes_of(const ClassRef& classes, std::vector<ClassRef>& seen, std::vector<SampleClasses>& sample) const {
  const auto found = std::find_if(seen.begin(), seen.end(), [&](const ClassRef& c) { return c->hash == classes->hash; });
  if (found != seen.end()) return static_cast<size_t>(found - seen.begin());
  seen.push_back(classes), sample.push_back(cache_.classes(classes->value.n_classes, classes->value.token_class));
  return seen.size() - 1;
}

Status LayerPrices::price(std::span<const Genome> genomes, std::vector<Price>& prices, uint64_t& remembered) {
  const auto L = static_cast<size_t>(cache_.n_layers());
  prices.assign(genomes.size() * L, nullptr);
  struct Asked {
    uint64_t key;
    size_t classes;
  };
  std::vector<Asked> asked;                              // one a job
  std::vector<GramJob> jobs;                             //
  std::unordered_map<uint64_t, size_t> job_of;           // by key
  std::vector<size_t> waits(prices.size(), ~size_t{0});  // for this job
  std::vector<ClassRef> seen;
  std::vector<SampleClasses> sample;
  for (size_t i = 0; i < genomes.size(); ++i) {
    const Genome& g = genomes[i];
    if (g.layers.size() != L)
      return Status::InvalidArgument("fitness: wanted a genome of " + std::to_string(L) + " layers, found " +
                                     std::to_string(g.layers.size()));
    const size_t classes = classes_of(g.classes, seen, sample), before = jobs.size();
    for (size_t l = 0; l < L; ++l) {
      if (cache_.layer(static_cast<int>(l)).is_dense()) continue;
      const uint64_t key = chained(layer_key(*g.layers[l], *g.classes), l);
      if ((prices[i * L + l] = find(key))) continue;
      const auto [at, is_new] = job_of.try_emplace(key, jobs.size());
      if (is_new) asked.push_back({key, classes}), jobs.push_back({static_cast<int>(l), &g.layers[l]->value, nullptr});
      waits[i * L + l] = at->second;
    }
    remembered += before == jobs.size();
  }
  for (size_t j = 0; j < jobs.size(); ++j) jobs[j].classes = &sample[asked[j].classes];
  std::vector<LayerError> errors(jobs.size());
  MOE_TRY(pool_.evaluate(jobs, errors));
  std::vector<Price> made;
  for (size_t j = 0; j < jobs.size(); ++j) {
    made.push_back(std::make_shared<const LayerPrice>(price_of(std::move(errors[j]))));
    remember(asked[j].key, made.back());
  }
  for (size_t i = 0; i < prices.size(); ++i)
    if (waits[i] != ~size_t{0}) prices[i] = made[waits[i]];
  return Status::Ok();
}

}  // namespace moe

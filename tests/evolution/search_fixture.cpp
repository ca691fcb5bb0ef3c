#include "tests/evolution/search_fixture.h"

#include <doctest/doctest.h>

#include <algorithm>

namespace moe::test {
namespace {

constexpr int kExperts = 8;
constexpr double kPair = 3;  // what losing both of a pair costs

}  // namespace

RoutingShape planted_shape(int layers) {
  RoutingShape s;
  s.model_hash = 0x0123456789abcdef, s.n_vocab = 4;
  s.layers.assign(static_cast<size_t>(layers), {kExperts, 2, 64, 16});
  return s;
}

double PlantedTruth::worth(int layer, int e) const {
  if (e < 2) return 0.001;
  return 0.02 * (1 + (5 * e + 3 * layer) % (kExperts - 1));
}

double PlantedTruth::loss(const Genome& genome, uint32_t text) const {
  double sum = 0;
  for (size_t l = 0; l < genome.layers.size(); ++l) {
    const std::vector<uint64_t> kept = genome.layers[l]->value.kept();
    for (int e = 0; e < kExperts; ++e)
      if (!has_bit(kept, e)) sum += worth(static_cast<int>(l), e);
    if (!has_bit(kept, 0) && !has_bit(kept, 1)) sum += kPair;
  }
  return sum * (1 + 0.25 * text);
}

double PlantedTruth::least_loss(int kept) const {
  std::vector<double> removable;
  for (int l = 0; l < static_cast<int>(shape_.layers.size()); ++l) {
    removable.push_back(worth(l, 0));
    for (int e = 2; e < kExperts; ++e) removable.push_back(worth(l, e));
  }
  std::sort(removable.begin(), removable.end());
  double sum = 0;
  for (size_t i = 0; i + static_cast<size_t>(kept) < shape_.layers.size() * kExperts; ++i) sum += removable.at(i);
  return sum;
}

Status PlantedTruth::count_call() {
  if (fail_after >= 0 && calls >= fail_after) return Status::Cancelled("asked to stop");
  ++calls;
  return {};
}

Status PlantedTruth::screen(std::span<const Genome> genomes, std::span<Evaluation> results) {
  for (size_t i = 0; i < genomes.size(); ++i) {
    Evaluation& e = results[i];
    int kept = 0;
    e.layer_error = 0;
    for (size_t l = 0; l < genomes[i].layers.size(); ++l) {
      kept += genomes[i].layers[l]->value.n_kept();
      const std::vector<uint64_t> mask = genomes[i].layers[l]->value.kept();
      for (int x = 0; x < kExperts; ++x)
        if (!has_bit(mask, x)) e.layer_error += worth(static_cast<int>(l), x);  // which cannot see pairs
    }
    e.kept_share = static_cast<double>(kept) / static_cast<double>(shape_.layers.size() * kExperts);
  }
  return {};
}

Status PlantedTruth::score(uint32_t generation, std::span<const Genome> genomes, const KeepBetter& keep,
                           std::span<Evaluation> results) {
  MOE_TRY(count_call());
  scored_in.push_back(generation);
  MOE_TRY(screen(genomes, results));
  for (size_t i = 0; i < genomes.size(); ++i) results[i].kl = loss(genomes[i], text_of(generation)), results[i].tokens = 100;
  spent_ += 100.0 * static_cast<double>(genomes.size());
  std::vector<uint8_t> kept(genomes.size(), 1);
  if (keep) keep(results, kept);
  for (size_t i = 0; i < genomes.size(); ++i) {
    if (kept[i]) {
      results[i].tokens = 400;
      spent_ += 300;
    } else {
      results[i].dropped = true;
    }
  }
  return {};
}

Status PlantedTruth::confirm(std::span<const Genome> genomes, std::span<Evaluation> results) {
  MOE_TRY(count_call());
  MOE_TRY(screen(genomes, results));
  for (size_t i = 0; i < genomes.size(); ++i) results[i].kl = loss(genomes[i], 0), results[i].tokens = 5000;
  spent_ += 5000.0 * static_cast<double>(genomes.size());
  return {};
}

PlantedSearch::PlantedSearch(const Setup& s) : shape(planted_shape(s.layers)), truth(shape), threads(s.threads) {
  truth.fresh_every = s.fresh_every;
  Constraints c;
  c.classes = 1;
  if (s.kept > 0) c.kept = IntRange{s.kept, s.kept};
  Result<SearchSpace> space = SearchSpace::create(shape, c);
  REQUIRE_MESSAGE(space.ok(), space.status().message());
  std::vector<MutationOp> mutations = default_mutations();
  if (!s.mutations.empty()) mutations = *mutations_by_name(mutations, s.mutations);
  Result<Variation> variation = Variation::create(*space, {}, std::move(mutations));
  REQUIRE_MESSAGE(variation.ok(), variation.status().message());
  ObjectiveSet objectives;
  for (const char* name : s.objectives) objectives.objectives.push_back(*find_objective(name));
  const std::vector<double> ones(s.weights.size(), 1);
  if (!s.weights.empty()) objectives.sum = *WeightedSum::make(s.weights, ones);
  SearchOptions o;
  o.seed = s.seed, o.algorithm = s.algorithm, o.settings.population = s.population;
  if (s.algorithm != "level-switch") o.settings.children = s.population;
  o.limits.generations = s.generations, o.learn = s.learn, o.archive = s.archive;
  Result<std::unique_ptr<Search>> made =
      Search::create(*std::move(space), *std::move(variation), objectives, o, {}, pool, truth, threads);
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  search = *std::move(made);
}

std::vector<GenerationRecord> PlantedSearch::run() {
  std::vector<GenerationRecord> records;
  while (search->ended() == SearchEnd::kRunning) {
    Result<GenerationRecord> record = search->step(static_cast<double>(search->generation()));
    REQUIRE_MESSAGE(record.ok(), record.status().message());
    records.push_back(*std::move(record));
  }
  return records;
}

}  // namespace moe::test

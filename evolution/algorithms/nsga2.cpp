// NSGA-II (Deb, Pratap, Agarwal, Meyarivan, IEEE TEC 2002): the best fronts survive, and of the front that does not fit whole
// those in the emptiest places; parents are winners of duels by front, then by crowding.
#include <algorithm>

#include "evolution/algorithms/makers.h"
#include "evolution/pareto.h"

namespace moe {
namespace {

class Nsga2 final : public Algorithm {
 public:
  explicit Nsga2(const AlgorithmOptions& options) : Algorithm("nsga2", options) {}

 private:
  void mate(Rng& rng, std::span<Mating> matings) const override {
    const Fronts fronts = sort_fronts(population(), options().n_objectives);
    std::vector<double> distance(population().size());
    for (size_t f = 0; f < fronts.size(); ++f) {
      const std::vector<double> of_front = crowding_distances(population(), fronts[f], options().n_objectives);
      for (size_t i = 0; i < of_front.size(); ++i) distance[fronts[f][i]] = of_front[i];
    }
    mate_by_duels(options().population, options().crossover_rate, rng, matings, [&](uint32_t a, uint32_t b) {
      if (fronts.rank[a] != fronts.rank[b]) return fronts.rank[a] < fronts.rank[b];
      return distance[a] > distance[b];
    });
  }

  void survive(std::span<const Score> all, Rng&, std::span<uint32_t> survivors) override {
    const Fronts fronts = sort_fronts(all, options().n_objectives);
    size_t filled = 0;
    for (size_t f = 0; filled < survivors.size(); ++f) {
      const std::span<const uint32_t> front = fronts[f];
      std::vector<uint32_t> order(front.size());
      std::iota(order.begin(), order.end(), 0u);
      if (front.size() > survivors.size() - filled) {
        const std::vector<double> distance = crowding_distances(all, front, options().n_objectives);
        std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return distance[a] > distance[b]; });
      }
      for (size_t i = 0; i < order.size() && filled < survivors.size(); ++i) survivors[filled++] = front[order[i]];
    }
  }
};

}  // namespace

Result<std::unique_ptr<Algorithm>> make_nsga2(const AlgorithmOptions& given) {
  AlgorithmOptions own;
  own.population = 100;
  own.crossover_rate = 0.9;
  MOE_ASSIGN(const AlgorithmOptions options, complete_options("nsga2", given, own, 1, kMostObjectives));
  return std::unique_ptr<Algorithm>(std::make_unique<Nsga2>(options));
}

}  // namespace moe

// (μ + λ) under one objective, by mutation: what EvoPress finds its levels with (Sieberling et al., ICML 2025). The mutation
// that keeps the budget is the driver's; so is the fitness ladder, which drops children after a cheap look: a dropped child
// never survives one that was looked at to the end. With μ = λ = 1 it is the (1+1)-EA of theory.
#include <algorithm>

#include "evolution/algorithms/makers.h"
#include "evolution/selections.h"

namespace moe {
namespace {

class LevelSwitch final : public Algorithm {
 public:
  explicit LevelSwitch(const AlgorithmOptions& options) : Algorithm("level-switch", options) {}

 private:
  void mate(Rng& rng, std::span<Mating> matings) const override {
    const uint32_t n = options().population;
    for (uint32_t i = 0; i < matings.size(); ++i) {
      const uint32_t mother = i % n;
      const bool crossed = rng.uniform_double() < options().crossover_rate;
      matings[i] = {mother, crossed ? static_cast<uint32_t>(rng.below(n)) : mother};
    }
  }

  // A child that is as good as somebody of the population goes before him: a plateau is walked across, not stood on.
  void survive(std::span<const Score> all, Rng&, std::span<uint32_t> survivors) override {
    const size_t n_old = generation() > 0 ? options().population : 0;
    std::vector<Score> children_first(all.begin() + static_cast<ptrdiff_t>(n_old), all.end());
    const size_t n_children = children_first.size();
    children_first.insert(children_first.end(), all.begin(), all.begin() + static_cast<ptrdiff_t>(n_old));
    const std::vector<uint32_t> order = order_by_first_objective(children_first);
    for (size_t slot = 0; slot < survivors.size(); ++slot) {
      const size_t i = order[slot];
      survivors[slot] = static_cast<uint32_t>(i < n_children ? n_old + i : i - n_children);
    }
  }
};

}  // namespace

Result<std::unique_ptr<Algorithm>> make_level_switch(const AlgorithmOptions& given) {
  AlgorithmOptions own;
  own.population = 1;
  own.children = 32;
  own.crossover_rate = 0;
  MOE_ASSIGN(const AlgorithmOptions options, complete_options("level-switch", given, own, 1, 1));
  return std::unique_ptr<Algorithm>(std::make_unique<LevelSwitch>(options));
}

}  // namespace moe

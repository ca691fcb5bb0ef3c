// A generational genetic algorithm under one objective. The elites stay, the best children fill the rest of the slots.
#include <algorithm>
#include <string>

#include "evolution/algorithms/makers.h"
#include "evolution/selections.h"

namespace moe {
namespace {

class Genetic final : public Algorithm {
 public:
  Genetic(const AlgorithmOptions& options, SelectionRow selection)
      : Algorithm("genetic", options), selection_(std::move(selection)) {}

 private:
  void mate(Rng& rng, std::span<Mating> matings) const override {
    std::vector<uint32_t> parents(2 * matings.size());
    selection_.select(population(), order_by_first_objective(population()), options().pressure, rng, parents);
    for (size_t i = 0; i < matings.size(); ++i) {
      const bool crossed = rng.uniform_double() < options().crossover_rate;
      matings[i] = {parents[2 * i], parents[2 * i + crossed]};
    }
  }

  // Elites, then children, best first; then those who were there before, and dropped children only where nobody else is left.
  void survive(std::span<const Score> all, Rng&, std::span<uint32_t> survivors) override {
    const uint32_t n_old = generation() > 0 ? options().population : 0;
    const std::vector<uint32_t> order = order_by_first_objective(all);
    uint32_t elites = std::min(options().elites, n_old);
    const auto group = [&](uint32_t i) {
      if (i >= n_old) return all[i].dropped() ? 3 : 1;
      if (elites == 0) return 2;
      --elites;  // order runs from the best on
      return 0;
    };
    std::vector<uint32_t> groups[4];
    for (const uint32_t i : order) groups[group(i)].push_back(i);
    auto to = survivors.begin();
    for (const std::vector<uint32_t>& g : groups)
      to = std::copy_n(g.begin(), std::min<ptrdiff_t>(survivors.end() - to, std::ssize(g)), to);
  }

  const SelectionRow selection_;
};

}  // namespace

Result<std::unique_ptr<Algorithm>> make_genetic(const AlgorithmOptions& given) {
  AlgorithmOptions own;
  own.population = 100;
  own.elites = 1;
  own.crossover_rate = 0.7;
  own.selection = "tournament";
  MOE_ASSIGN(AlgorithmOptions options, complete_options("genetic", given, own, 1, 1));
  MOE_ASSIGN(const SelectionRow* selection, find_selection(options.selection, options.selections));
  if (options.pressure == 0) options.pressure = selection->own_pressure;
  if (!(options.pressure >= selection->least_pressure && options.pressure <= selection->most_pressure))
    return Status::InvalidArgument("genetic: selection " + options.selection + ": wanted a pressure of " +
                                   std::to_string(selection->least_pressure) + " to " +
                                   std::to_string(selection->most_pressure) + ", found " + std::to_string(options.pressure));
  if (options.elites > options.population || options.elites + options.children < options.population)
    return Status::InvalidArgument("genetic: " + std::to_string(options.elites) + " elites and " +
                                   std::to_string(options.children) + " children do not fill a population of " +
                                   std::to_string(options.population));
  return std::unique_ptr<Algorithm>(std::make_unique<Genetic>(options, *selection));
}

}  // namespace moe

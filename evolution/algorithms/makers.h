// What the files of this folder give to the table in evolution/algorithms.cpp, and what they share.
#pragma once

#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "core/rng.h"
#include "evolution/algorithm.h"

namespace moe {

Result<std::unique_ptr<Algorithm>> make_genetic(const AlgorithmOptions& options);
Result<std::unique_ptr<Algorithm>> make_level_switch(const AlgorithmOptions& options);
Result<std::unique_ptr<Algorithm>> make_nsga2(const AlgorithmOptions& options);
Result<std::unique_ptr<Algorithm>> make_nsga3(const AlgorithmOptions& options);

// `given` with an algorithm's own values where it is silent; children: as many as slots, unless stated. Refused: values out
// of range, fewer or more objectives than the algorithm is for.
Result<AlgorithmOptions> complete_options(const char* name, AlgorithmOptions given, const AlgorithmOptions& own,
                                          int least_objectives, int most_objectives);

// Slots in random order, every slot once before any comes again: fewer accidents than independent draws.
class Deck {
 public:
  Deck(uint32_t n, Rng& rng) : cards_(n), rng_(rng) { std::iota(cards_.begin(), cards_.end(), 0u); }

  uint32_t deal() {
    const size_t at = dealt_++ % cards_.size();
    std::swap(cards_[at], cards_[at + rng_.below(cards_.size() - at)]);
    return cards_[at];
  }

 private:
  std::vector<uint32_t> cards_;
  Rng& rng_;
  size_t dealt_ = 0;
};

// Matings of winners of duels between two slots. beats(a, b): strictly; else the first wins.
template <class Beats>
void mate_by_duels(uint32_t n_slots, double crossover_rate, Rng& rng, std::span<Mating> matings, Beats beats) {
  Deck deck(n_slots, rng);
  const auto winner = [&] {
    const uint32_t a = deck.deal(), b = deck.deal();
    return beats(b, a) ? b : a;
  };
  for (Mating& mating : matings) {
    mating.mother = winner();
    mating.father = winner();
    if (!(rng.uniform_double() < crossover_rate)) mating.father = mating.mother;
  }
}

}  // namespace moe

// A search algorithm: who mates and who survives, from scores alone. It never sees a candidate; variation, which edits
// candidates, never sees a score; a driver joins them:
//
//   algorithm->tell(scores of the first candidates);           // generation 0; survivors() says which become the population
//   while (…) {
//     matings = algorithm->ask();                              // child i of mother and father, slots of the population
//     children = … vary and score …
//     algorithm->tell(scores of children);                     // in the order of ask()
//     population = [old population, children] by survivors();
//   }
//
// Everything is a function of (options, scores told): same seed, same scores, same decisions, on every platform. ask() twice
// gives the same answer. Time and candidates are the driver's. Not thread-safe; takes no threads of its own.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "core/rng.h"
#include "core/status.h"
#include "evolution/score.h"
#include "evolution/selections.h"

namespace moe {

// 0, negative or empty: the algorithm's own value, stated in its help line. What an algorithm does not use it ignores.
struct AlgorithmOptions {
  uint64_t seed = 1;
  int n_objectives = 1;        // 1 to kMostObjectives
  uint32_t population = 0;     // slots
  uint32_t children = 0;       // of a generation
  double crossover_rate = -1;  // share of children with a father, 0 to 1
  std::string selection;       // who mates: a name of selections.h, or of `selections`
  double pressure = 0;         // of the selection
  uint32_t elites = 0;         // slots that the best keep
  int divisions = 0;           // of each objective, for reference points

  std::vector<SelectionRow> selections = {};  // the caller's own
};

class Algorithm {
 public:
  virtual ~Algorithm() = default;
  Algorithm(const Algorithm&) = delete;
  Algorithm& operator=(const Algorithm&) = delete;

  const char* name() const { return name_; }
  const AlgorithmOptions& options() const { return options_; }  // with the algorithm's own values filled in

  // How many generations were told; 0: the first candidates are waited for.
  uint32_t generation() const { return generation_; }
  // Of generation(): empty in generation 0, else options().children of them. Valid until tell(), rescore() or restore().
  std::span<const Mating> ask();
  // In the order of ask(). Generation 0: at least options().population scores, the best of which become the population.
  // Refused, and nothing changed: a wrong count, NaN, an infinite value, a negative violation. A dropped child's values
  // are not looked at.
  Status tell(std::span<const Score> children);
  // New scores of the present population, when the ruler changed: fresh text, a higher rung of the ladder.
  Status rescore(std::span<const Score> population);

  // Of the last tell(), by new slot: the old slot i, or child i − population. In generation 0 child i.
  std::span<const uint32_t> survivors() const { return survivors_; }
  std::span<const Score> population() const { return population_; }

  // The state between two generations as plain numbers. restore() needs an algorithm made with the same options; refused,
  // and nothing changed, when they differ or bytes are missing. survivors() is empty after it.
  void save(ByteWriter& out) const;
  Status restore(ByteReader& in);

 protected:
  // `options` without zeros.
  Algorithm(const char* name, AlgorithmOptions options) : name_(name), options_(std::move(options)) {}

  // Fills in who mates in `matings` (options().children of them).
  virtual void mate(Rng& rng, std::span<Mating> matings) const = 0;
  // Fills in who of `all` (the population, then the children; generation 0: children only) survives, one a slot.
  virtual void survive(std::span<const Score> all, Rng& rng, std::span<uint32_t> survivors) = 0;
  // What survive() remembers beyond the population. read_state: false, and nothing changed, when bytes are missing or
  // senseless.
  virtual void forget() {}  // the scores that it came from no longer hold
  virtual void write_state(ByteWriter&) const {}
  virtual bool read_state(ByteReader&) { return true; }

 private:
  const char* name_;
  AlgorithmOptions options_;
  uint32_t generation_ = 0;
  bool asked_ = false;  // matings_ are those of generation_
  std::vector<Score> population_;
  std::vector<Score> all_;
  std::vector<Mating> matings_;
  std::vector<uint32_t> survivors_;
};

// One row an algorithm; `evolution/algorithms.cpp` holds the table.
struct AlgorithmRow {
  const char* name;
  const char* help;  // one line: what it is, its own values, the paper
  Result<std::unique_ptr<Algorithm>> (*make)(const AlgorithmOptions& options);
};
std::span<const AlgorithmRow> algorithms();

// Refused: an unknown name (the message lists those there are), options outside of their range or at odds.
Result<std::unique_ptr<Algorithm>> make_algorithm(std::string_view name, const AlgorithmOptions& options);

}  // namespace moe

// One child of one or two parents: crossover, mutations, repair. A pure function of the parents, the operators' probabilities
// and (seed, generation, child): children are bred by any number of threads in any order and come out the same.
#pragma once

#include <string>

#include "evolution/credit.h"
#include "evolution/genome.h"
#include "evolution/repair.h"
#include "evolution/streams.h"
#include "evolution/variation/operators.h"

namespace moe {

struct BreedOptions {
  double crossover_rate = 0.7;  // of children that have two parents who differ
  double mutate_crossed = 0.5;  // chance of a first mutation behind a crossover; others always have one
  double mutate_more = 0.3;     // chance of each further one
  int most_mutations = 4;       // of one child
  CreditOptions credit = {};
};

// What a search varies genomes with. A value; breeding only reads it.
class Variation {
 public:
  // Leaves out mutations that the space has no use for. kInvalidArgument when none is left or an option is out of range.
  static Result<Variation> create(const SearchSpace& space, BreedOptions options = {},
                                  std::vector<MutationOp> mutations = default_mutations(),
                                  std::vector<CrossoverOp> crossovers = default_crossovers());

  const BreedOptions& options() const { return options_; }
  const std::vector<MutationOp>& mutations() const { return mutations_; }
  const std::vector<CrossoverOp>& crossovers() const { return crossovers_; }
  const OperatorCredit& mutation_credit() const { return mutation_credit_; }
  const OperatorCredit& crossover_credit() const { return crossover_credit_; }

  std::string name_of(uint16_t op) const;  // of an entry of Lineage::operators

  // How much better the child with this lineage was than its parents: to each of its operators. In the order of children.
  void reward(const Lineage& lineage, double gain);
  void end_generation();

  // The credit, and the operators' names, which must be the same again: credit belongs to names.
  void save(ByteWriter& out) const;
  Status load(ByteReader& in);

 private:
  Variation(BreedOptions options, std::vector<MutationOp> mutations, std::vector<CrossoverOp> crossovers);
  std::vector<std::string> names() const;

  BreedOptions options_;
  std::vector<MutationOp> mutations_;
  std::vector<CrossoverOp> crossovers_;
  OperatorCredit mutation_credit_, crossover_credit_;
};

// An entry of Lineage::operators: the row of the mutations, or with this bit that of the crossovers.
inline constexpr uint16_t kCrossoverBit = 0x8000;

// Ids are never 0. child < 2^24
inline uint64_t genome_id(uint32_t generation, uint32_t child) { return (uint64_t{generation} << 24 | child) + 1; }

// Parents must satisfy the space's constraints, the child then does. father may be the mother herself. Where no operator finds
// anything to do, or the budgets cannot be met, the child is a copy of the mother without operators. Thread-safe.
Genome breed(const Genome& mother, const Genome& father, const Variation& variation, const SearchSpace& space, uint64_t seed,
             uint32_t generation, uint32_t child, GenePool& pool);

}  // namespace moe

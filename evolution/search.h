// The search itself: algorithms decide, operators vary, an evaluator measures, and this joins them, a generation at a time.
//
//   ask() ──► breed `oversample` children a mating ──screen()──► one of each mating ──score()──► tell()
//                                                                                                  │
//   archive ◄── not dominated by what it holds ◄──confirm()── first front, the newcomers of it ◄───┘
//
// Everything but the measurements is a function of the options, so a run is its measurements: step() returns them as a
// GenerationRecord, and replay() lives through it again without measuring. A journal of records is all that a resumed run
// needs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/threads.h"
#include "evolution/algorithm.h"
#include "evolution/breed.h"
#include "evolution/evaluation.h"
#include "evolution/objectives.h"
#include "evolution/surrogate.h"
#include "evolution/termination.h"

namespace moe {

struct SearchOptions {
  uint64_t seed = 1;
  std::string algorithm = "nsga2";
  AlgorithmOptions settings = {};  // of the algorithm; seed and n_objectives are this search's
  int oversample = 16;             // children bred and screened for each one that is scored
  bool learn = true;               // they are ranked by what scores taught so far as well: surrogate.h
  double keep = 0.5;               // share of a generation that passes a cheap rung of the ladder, (0, 1]
  int archive = 64;                // most genomes in it: the most crowded go first
  int confirm = 4;                 // most newcomers of a generation that are measured on the whole selection text
  TerminationLimits limits = {};   // `evaluations` counts token · layer forwards
};

// A genome with what is known of it.
struct Candidate {
  Genome genome;
  Evaluation evaluation;
  Score score;
};

struct SearchStatistics {
  std::vector<double> best;    // (n_objectives) of the archive, in the objective's unit; of a weighted sum its best candidate's
                               // values; NaN while it is empty
  double hypervolume = 0;      // of the archive, 1: as much as a point that has the best of generation 0 everywhere
  double diversity = 0;        // connections in which two of the population differ, mean, as a share of all
  uint64_t unique_layers = 0;  // blocks in the population
  uint64_t duplicates = 0;     // candidates that were somebody else already
  double rank_screen = 0;      // Kendall's τ of children by layer_error and as measured, recent mean; NaN: none yet
  double rank_learnt = 0;      // the same of what scores taught; the better of the two picks the next children
  std::vector<double> mutation_share, crossover_share;  // probability of each operator in the next generation
};

// A generation's measurements, and what was made of them.
struct GenerationRecord {
  uint32_t generation = 0;
  std::vector<uint32_t> picked;         // (matings) which of its candidates each mating kept
  uint64_t children_hash = 0;           // of the genomes that were scored: a replay must meet them again
  std::vector<Evaluation> rescored;     // of the population on another text; empty: the text was the same
  std::vector<Evaluation> evaluations;  // of the children
  std::vector<Evaluation> confirmed;    // of the newcomers
  double token_layers = 0;              // spent until now
  double seconds = 0;                   // of the run until now, as the caller tells
  SearchStatistics statistics;
};

// Not thread-safe; breeds on the threads it is given. Evaluator and threads must outlive it.
class Search {
 public:
  // Seeds are repaired to the space's constraints and open generation 0; what is missing of it wanders off from them by chance.
  // Without seeds the full model is the only one. kInvalidArgument for options out of range, for seeds that repair cannot save
  // and where an objective is not among those that the evaluator can measure.
  static Result<std::unique_ptr<Search>> create(SearchSpace space, Variation variation, ObjectiveSet objectives,
                                                SearchOptions options, std::vector<Genome> seeds,
                                                std::shared_ptr<GenePool> pool, Evaluator& evaluator, ThreadPool& threads);

  // One generation. An error (kCancelled among them) leaves the search where it was.
  Result<GenerationRecord> step(double seconds);
  // The same without measuring. kCorrupt when the record is not of this search's next generation.
  Status replay(const GenerationRecord& record);

  uint32_t generation() const { return algorithm_->generation(); }  // that step() makes next
  SearchEnd ended() const { return ended_; }                        // after the last generation
  const SearchOptions& options() const { return options_; }
  const ObjectiveSet& objectives() const { return objectives_; }
  const SearchSpace& space() const { return space_; }
  const Variation& variation() const { return variation_; }

  std::span<const Candidate> population() const { return population_; }
  // Feasible and not dominated by one another, measured on the whole selection text; ascending by the first objective.
  std::span<const Candidate> archive() const { return archive_; }
  // The front that ends a run: the archive, what of the population's first front was never confirmed, and those of `others`
  // (baselines, say) that satisfy the constraints, as far as none dominates another: at most options().archive and as many
  // more as `others`. Measures those that are not in the archive.
  Result<std::vector<Candidate>> final_front(std::span<const Genome> others = {});

 private:
  Search(SearchSpace space, Variation variation, ObjectiveSet objectives, SearchOptions options, std::shared_ptr<GenePool> pool,
         Evaluator& evaluator, ThreadPool& threads);
  Status first_candidates(std::vector<Genome> seeds);
  Result<GenerationRecord> advance(const GenerationRecord* known, double seconds);
  std::vector<Genome> breed_all(std::span<const Mating> matings, std::span<const uint32_t> picked) const;
  Status pick(std::span<const Genome> bred, uint32_t per_mating, std::vector<uint32_t>& picked, uint64_t& duplicates) const;
  bool learnt() const;  // enough to rank by
  void learn(std::span<const Genome> genomes, std::span<const Evaluation> evaluations);
  Result<std::vector<Score>> scores_of(std::span<const Evaluation> evaluations) const;
  void keep_better(std::span<const Evaluation> evaluations, std::span<uint8_t> keep) const;
  void reward(std::span<const Mating> matings, std::span<const Candidate> children);
  std::vector<size_t> newcomers() const;
  static void archive_best(std::vector<Candidate>& archive, int n_objectives, size_t most);
  void set_reference(std::span<const Score> scores);
  SearchStatistics statistics(uint64_t duplicates) const;
  int n_objectives() const { return objectives_.n_values(); }

  SearchSpace space_;
  Variation variation_;
  ObjectiveSet objectives_;
  SearchOptions options_;
  std::shared_ptr<GenePool> pool_;
  Evaluator& evaluator_;
  ThreadPool& threads_;
  std::unique_ptr<Algorithm> algorithm_;
  std::unique_ptr<Termination> termination_;
  std::vector<Genome> first_;  // generation 0
  std::vector<Candidate> population_, archive_;
  Surrogate surrogate_;
  double rank_screen_ = kNotMeasured, rank_learnt_ = kNotMeasured;
  Objectives reference_{}, ideal_{};  // of generation 0, for the hypervolume
  SearchEnd ended_ = SearchEnd::kRunning;
  double earlier_ = 0;  // token · layer forwards that this evaluator has not counted, because another one did, or counted twice
};

}  // namespace moe

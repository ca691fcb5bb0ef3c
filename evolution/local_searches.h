// Searches without a population, through the same Evaluator and ladder as search.h: what an evolution has to beat at an equal
// budget.
//
//   random_search  candidates drawn at random, the predicted best of each `oversample` scored
//   hill_climb     (1+λ) by the mutations of variation/, begun anew from a random candidate when nothing got better for a while
//   level_switch   EvoPress (arXiv 2410.14649): (1+λ) on one number a layer, experts kept (or used a token); some layers get
//                  one more and as many one less, which experts stay is settled by an order
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "evolution/baseline_parts.h"
#include "evolution/breed.h"
#include "evolution/evaluation.h"
#include "evolution/objectives.h"

namespace moe {

// What all of them need. Nothing is owned.
struct LocalSearch {
  const SearchSpace* space = nullptr;
  const ObjectiveSet* objectives = nullptr;  // one objective, and limits
  Evaluator* evaluator = nullptr;
  GenePool* pool = nullptr;
  uint64_t seed = 1;
  double token_layers = 0;             // spent by the search, in units of Evaluator::token_layers(); then it ends
  std::function<double()> spent = {};  // empty: evaluator->token_layers()
  int children = 16;                   // scored together
  int oversample = 4;                  // drawn or bred and screened for each that is scored
  double keep = 0.5;                   // share that passes a cheap rung
  int patience = 8;                    // generations without a better one before hill_climb begins anew
  int confirmed = 4;                   // of the best, measured on the whole selection text in the end
  double work = 0;                     // share of experts' channels that a random candidate spends at most; 0: as it comes
};

struct LocalResult {
  Genome genome;
  Evaluation evaluation;  // confirmed
  uint64_t scored = 0;
  uint32_t generations = 0;
};

// All budgets of the space met by chance: masks, and where Σ k_max is limited numbers of experts; saliency that the space has
// guides its repair. With `work` > 0 numbers of experts a token and widths of layers grow by chance from the least there are,
// until nothing more fits into that share of the full model's.
Result<Genome> random_candidate(const SearchSpace& space, double work, Rng& rng, GenePool& pool);

// kInvalidArgument where the space's budgets cannot be met from a draw. The end of a budget is looked at between generations.
Result<LocalResult> random_search(const LocalSearch& search);
Result<LocalResult> hill_climb(const LocalSearch& search, const Variation& variation);

// orders: (n layers), of experts kept; empty: the numbers are those of experts a token. Σ of all stays what it is in `first`.
Result<LocalResult> level_switch(const LocalSearch& search, const Genome& first, std::span<const LayerOrder> orders);

}  // namespace moe

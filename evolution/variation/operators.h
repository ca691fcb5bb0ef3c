// Operators: what a child differs in from its parents. An operator edits a draft and never sees a score; repair (repair.h) runs
// behind it and keeps the constraints. Tables are values that a search is given, so that a caller appends rows of its own.
//
// One more operator: a file with a function that returns its row, its declaration below, its line in operators.cpp.
// tests/evolution/variation_test.cpp then holds it to what the row says.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/rng.h"
#include "evolution/constraints.h"
#include "evolution/genome_draft.h"

namespace moe {

// What an operator may touch, as bits.
enum GeneField : uint32_t {
  kFieldMasks = 1,
  kFieldK = 2,
  kFieldThreshold = 4,
  kFieldTemperature = 8,
  kFieldBias = 16,
  kFieldWidth = 32,
  kFieldRedirect = 64,
  kFieldClasses = 128,
  kFieldAll = 255,
};

inline constexpr int kEveryLayer = 1 << 30;

struct MutationOp {
  std::string name, help;
  uint32_t changes = 0;  // GeneField bits, what repair may add to them excepted
  int layers = 1;        // most layers that it edits
  // Whether a search over this space can use it at all.
  std::function<bool(const SearchSpace&)> usable;
  // False: there was nothing to do here, and the draft is as it was. True: the draft does something else than before, which
  // repair may have to trim where `needs_repair`.
  std::function<bool(GenomeDraft&, const SearchSpace&, Rng&)> apply;
  bool needs_repair = false;  // else budgets and masks are kept without
};

struct CrossoverOp {
  std::string name, help;
  uint32_t changes = 0;
  // The draft is one of the mother. False: the child would be the mother, who is as she was.
  std::function<bool(GenomeDraft&, const Genome& father, const SearchSpace&, Rng&)> apply;
};

std::vector<MutationOp> default_mutations();
std::vector<CrossoverOp> default_crossovers();

// Rows of a table by name, in the order asked for; kNotFound lists what there is.
Result<std::vector<MutationOp>> mutations_by_name(const std::vector<MutationOp>& table, std::span<const std::string> names);
Result<std::vector<CrossoverOp>> crossovers_by_name(const std::vector<CrossoverOp>& table, std::span<const std::string> names);

// The rows, each in a file of its name.
MutationOp add_connection();
MutationOp remove_connection();
MutationOp rewire_expert();
MutationOp level_switch_kept();
MutationOp level_switch_ranked();
MutationOp level_switch_k();
MutationOp k_range();
MutationOp threshold_step();
MutationOp temperature_step();
MutationOp bias_step();
MutationOp width_step();
MutationOp width_shift();
MutationOp work_switch();
MutationOp redirect_edge();
MutationOp group_toggle();
MutationOp class_split();
MutationOp class_merge();
MutationOp layer_skip();

CrossoverOp uniform_layers();
CrossoverOp one_point_depth();
CrossoverOp mask_uniform();
CrossoverOp blend_parameters();

}  // namespace moe

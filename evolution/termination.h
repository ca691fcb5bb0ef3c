// When a search is over. No clock here: the caller says how long it has run, so that a resumed run counts what came before.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/bytes.h"
#include "core/status.h"

namespace moe {

// 0 or nothing: no such limit.
struct TerminationLimits {
  uint64_t evaluations = 0;
  uint32_t generations = 0;
  double seconds = 0;
  std::optional<double> target;  // over once the measure is this small
  uint32_t window = 0;           // generations without …
  double gain = 0;               // … the measure having fallen by more than this share of what it was: stagnation
};

struct SearchProgress {
  uint64_t evaluations = 0;
  uint32_t generation = 0;
  double seconds = 0;
  double measure = 0;  // what is watched, smaller is better: the best score, or minus a hypervolume
};

enum class SearchEnd : uint8_t { kRunning, kTarget, kGenerations, kEvaluations, kTime, kStagnation };
const char* search_end_name(SearchEnd reason);

class Termination {
 public:
  // Refused: negative or NaN limits, a gain without a window, no limit at all.
  static Result<Termination> make(const TerminationLimits& limits);

  // Once a generation. The first reason that holds, in the order of SearchEnd; a NaN measure never improves.
  SearchEnd after(const SearchProgress& progress);

  // What a resumed run needs besides the limits.
  void save(ByteWriter& out) const;
  Status restore(ByteReader& in);

 private:
  explicit Termination(const TerminationLimits& limits) : limits_(limits) {}

  TerminationLimits limits_;
  std::vector<double> best_;  // best measure after each of the last window + 1 generations, the oldest first
};

}  // namespace moe

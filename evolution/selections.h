// Who becomes a parent, from one objective. A row a selection; a user's own is a row in AlgorithmOptions::selections.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/rng.h"
#include "core/status.h"
#include "evolution/score.h"

namespace moe {

// Slots from best to worst: violation, then values[0], then the smaller slot.
std::vector<uint32_t> order_by_first_objective(std::span<const Score> scores);

struct SelectionRow {
  std::string name;
  std::string help;     // one line, with what `pressure` means
  double own_pressure;  // where none is given
  double least_pressure, most_pressure;
  // Fills `chosen` with slots, drawn with replacement. order: order_by_first_objective(population). population: not empty.
  std::function<void(std::span<const Score> population, std::span<const uint32_t> order, double pressure, Rng& rng,
                     std::span<uint32_t> chosen)>
      select;
};

std::span<const SelectionRow> selections();
// Among `own`, then in the table. Refused: a name that is in neither; the message lists those that are.
Result<const SelectionRow*> find_selection(std::string_view name, std::span<const SelectionRow> own = {});

}  // namespace moe

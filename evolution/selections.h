// Who becomes a parent, from one objective. A row a selection; a user's own is a row of his own.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/rng.h"
#include "core/status.h"
#include "evolution/score.h"

namespace moe {

// Slots from best to worst: violation, then values[0], then the smaller slot.
std::vector<uint32_t> order_by_first_objective(std::span<const Score> scores);

struct SelectionRow {
  const char* name;
  const char* help;     // one line, with what `pressure` means
  double own_pressure;  // where none is given
  double least_pressure, most_pressure;
  // Fills `chosen` with slots, drawn with replacement. order: order_by_first_objective(population). population: not empty.
  void (*select)(std::span<const Score> population, std::span<const uint32_t> order, double pressure, Rng& rng,
                 std::span<uint32_t> chosen);
};

std::span<const SelectionRow> selections();
// Refused: a name that is not in the table; the message lists those that are.
Result<const SelectionRow*> find_selection(std::string_view name);

}  // namespace moe

// Which stream of random numbers belongs to what: a draw is a pure function of (seed, purpose, generation, child), so that
// neither threads nor a resumed run change it. One place for the numbers, because two users of one stream would draw alike.
#pragma once

#include <cstdint>

#include "core/check.h"
#include "core/rng.h"

namespace moe {

enum class Purpose : uint8_t {
  kFirstPopulation = 1,
  kMating = 2,       // who mates, and with a father or without
  kSurvival = 3,     // ties among those who might survive
  kCrossover = 4,    // of one child
  kMutation = 5,     // of one child
  kOperator = 6,     // which operator makes one child
  kSample = 7,       // which text a generation is scored on
  kCalibration = 8,  // which tokens a calibration keeps the layer inputs of
  kPick = 9,         // which of its candidates a mating keeps
};

// bits 63..56 purpose | 55..24 generation | 23..0 child
inline Rng stream_of(uint64_t seed, Purpose purpose, uint32_t generation, uint32_t child = 0) {
  MOE_CHECK(child < 1u << 24);
  return Rng(seed, static_cast<uint64_t>(purpose) << 56 | static_cast<uint64_t>(generation) << 24 | child);
}

}  // namespace moe

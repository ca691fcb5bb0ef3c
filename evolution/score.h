// What a search knows of a candidate: numbers to minimise, and how far it is from being allowed at all.
//
// An algorithm sees scores and nothing else; what a candidate is made of is known only to those who vary and evaluate it.
#pragma once

#include <array>
#include <cstdint>
#include <limits>

namespace moe {

inline constexpr int kMostObjectives = 12;
inline constexpr double kDropped = std::numeric_limits<double>::infinity();  // a violation: given up before it was scored

// A point of objective space; the first n_objectives count. All are minimised.
using Objectives = std::array<double, kMostObjectives>;

struct Score {
  Objectives values{};
  double violation = 0;  // 0: feasible; else how far from it: feasible goes before infeasible, then less before more

  bool feasible() const { return violation == 0; }
  bool dropped() const { return violation == kDropped; }  // its values mean nothing
};

// Who makes a child, as slots of the present population. father == mother: by mutation alone.
struct Mating {
  uint32_t mother = 0, father = 0;
};

}  // namespace moe

// Keys of things that follow from each other: folding values one after another. Not for hostile input.
#pragma once

#include <cstdint>

namespace moe {

// (h, v) to a new h by the step of SplitMix64; equal chains only for equal lists of values, but for 64-bit accidents.
inline uint64_t chained(uint64_t h, uint64_t v) {
  uint64_t z = (h ^ v) + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace moe

// Loops over registers. What a loop indexes is in memory until the loop is unrolled, and some of it stays there: calling a
// lambda with each index as a constant keeps arrays of vectors in registers from the beginning.
#pragma once

#include <utility>

#define MOE_INLINE __attribute__((always_inline))

namespace moe::cpu {
namespace {

template <int kValue>
struct Index {
  constexpr operator int() const { return kValue; }
};

template <class F, int... kValues>
MOE_INLINE inline void unroll(F&& f, std::integer_sequence<int, kValues...>) {
  (f(Index<kValues>{}), ...);
}

// f(0), f(1), ... f(N - 1)
template <int N, class F>
MOE_INLINE inline void unroll(F&& f) {
  unroll(f, std::make_integer_sequence<int, N>{});
}

}  // namespace
}  // namespace moe::cpu

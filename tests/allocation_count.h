// Counts what goes through operator new in the test program: proves that a loop allocates nothing.
#pragma once

#include <cstdint>

#include "tests/sanitized.h"

namespace moe::test {

// Allocations by all threads since the program started; 0 under the sanitizers.
uint64_t allocation_count();

}  // namespace moe::test

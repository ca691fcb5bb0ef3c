// Counts what goes through operator new in the test program: proves that a loop allocates nothing.
#pragma once

#include <cstdint>

// The sanitizers need operator new for themselves; the count then stays 0.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MOE_TEST_COUNTS_ALLOCATIONS 0
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOE_TEST_COUNTS_ALLOCATIONS 0
#endif
#ifndef MOE_TEST_COUNTS_ALLOCATIONS
#define MOE_TEST_COUNTS_ALLOCATIONS 1
#endif

namespace moe::test {

// Allocations by all threads since the program started.
uint64_t allocation_count();

}  // namespace moe::test

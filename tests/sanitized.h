// Whether the sanitizers watch the test program. They take ten times as long, so loops that repeat one thing often (draws,
// thread counts, damaged bytes) are cut down for them, and they need operator new for themselves.
#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MOE_TEST_SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOE_TEST_SANITIZED 1
#endif
#ifndef MOE_TEST_SANITIZED
#define MOE_TEST_SANITIZED 0
#endif

namespace moe::test {

inline constexpr bool kSanitized = MOE_TEST_SANITIZED != 0;

}  // namespace moe::test

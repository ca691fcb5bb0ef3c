// The replaced operator new of the test program, and the proof that it counts.
#include "tests/allocation_count.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<uint64_t> count{0};

}  // namespace

uint64_t moe::test::allocation_count() { return count.load(std::memory_order_relaxed); }

#if !MOE_TEST_SANITIZED

// The array and nothrow forms of the standard library end in these. Not inlined: GCC would take malloc and delete for a
// mismatch.
[[gnu::noinline]] void* operator new(size_t bytes) {
  count.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(bytes ? bytes : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t bytes, std::align_val_t alignment) {
  count.fetch_add(1, std::memory_order_relaxed);
  const size_t a = static_cast<size_t>(alignment);
  if (void* p = std::aligned_alloc(a, (bytes + a - 1) / a * a)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }

TEST_CASE("the allocation counter sees plain, array and aligned allocations") {
  // Called by name: new-expressions and containers may be optimised away in pairs.
  constexpr std::align_val_t kWide{128};
  const uint64_t before = moe::test::allocation_count();
  void* plain = ::operator new(100);
  void* array = ::operator new[](100);
  void* aligned = ::operator new[](100, kWide);
  CHECK(moe::test::allocation_count() == before + 3);
  CHECK(reinterpret_cast<uintptr_t>(aligned) % 128 == 0);
  ::operator delete(plain);
  ::operator delete[](array);
  ::operator delete[](aligned, kWide);
}

#endif

#include "core/arena.h"

#include <doctest/doctest.h>

using moe::Arena;

TEST_CASE("everything taken is aligned, disjoint and inside the capacity") {
  Arena arena(1024);
  auto* a = arena.take<char>(1);
  auto* b = arena.take<double>(9);
  auto* c = arena.take<char>(64);
  CHECK(reinterpret_cast<uintptr_t>(a) % moe::kAlignment == 0);
  CHECK(reinterpret_cast<char*>(b) - a == 64);
  CHECK(c - reinterpret_cast<char*>(b) == 128);
  CHECK(arena.used() == 64 + 128 + 64);
  for (int i = 0; i < 64; ++i) c[i] = 1;
}

TEST_CASE("a capacity is rounded up to the alignment and can be used to its end") {
  Arena arena(100);
  CHECK(arena.capacity() == 128);
  arena.take<char>(128);
  CHECK_THROWS_AS(arena.take<char>(1), moe::BugError);
  CHECK(arena.used() == 128);
}

TEST_CASE("an empty arena gives nothing but zero elements") {
  Arena arena;
  arena.take<int>(0);
  CHECK(arena.used() == 0);
  CHECK_THROWS_AS(arena.take<int>(1), moe::BugError);
}

TEST_CASE("a count whose bytes overflow size_t is refused") {
  Arena arena(256);
  CHECK_THROWS_AS(arena.take<double>(SIZE_MAX / 8 + 1), moe::BugError);
  CHECK_THROWS_AS(arena.take<double>(SIZE_MAX / 8), moe::BugError);
  CHECK_THROWS_AS(arena.take<char>(SIZE_MAX), moe::BugError);
  arena.take<char>(64);
  CHECK_THROWS_AS(arena.take<char>(SIZE_MAX - 63), moe::BugError);
  CHECK(arena.used() == 64);
}

TEST_CASE("a frame gives back what was taken inside it, frames nest") {
  Arena arena(512);
  arena.take<char>(64);
  {
    const Arena::Frame outer(arena);
    char* first = arena.take<char>(64);
    {
      const Arena::Frame inner(arena);
      arena.take<char>(128);
      CHECK(arena.used() == 256);
    }
    CHECK(arena.used() == 128);
    CHECK(arena.take<char>(1) == first + 64);
  }
  CHECK(arena.used() == 64);
}

TEST_CASE("align_up goes to the next multiple and stays on one") {
  CHECK(moe::align_up(0) == 0);
  CHECK(moe::align_up(1) == 64);
  CHECK(moe::align_up(64) == 64);
  CHECK(moe::align_up(65, 32) == 96);
}

#include "core/threads.h"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "core/check.h"
#include "tests/allocation_count.h"

using moe::ThreadPool;

namespace {

constexpr int kSizes[] = {1, 2, 3, 8};

struct alignas(64) Slot {
  int64_t value = 0;
};

}  // namespace

TEST_CASE("every thread is called exactly once a run, the caller as thread 0") {
  for (int n : kSizes) {
    ThreadPool pool(n);
    REQUIRE(pool.size() == n);
    std::vector<Slot> calls(static_cast<size_t>(n));
    std::vector<std::thread::id> ids(static_cast<size_t>(n));
    for (int run = 0; run < 100; ++run) {
      auto f = [&](int thread) {
        ++calls[static_cast<size_t>(thread)].value;
        ids[static_cast<size_t>(thread)] = std::this_thread::get_id();
      };
      pool.run(f);
    }
    for (const Slot& c : calls) CHECK(c.value == 100);
    CHECK(ids[0] == std::this_thread::get_id());
  }
}

// Each phase reads what the neighbours wrote in the phase before: one missing or early barrier breaks the sums (and TSAN
// reports).
TEST_CASE("a barrier separates phases: thousands of runs with several barriers at 1, 2, 3 and 8 threads") {
  constexpr int kRuns = moe::test::kSanitized ? 200 : 2000, kPhases = 5;
  for (int n : kSizes) {
    ThreadPool pool(n);
    std::vector<Slot> a(static_cast<size_t>(n)), b(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i) a[static_cast<size_t>(i)].value = i;
    auto f = [&](int thread) {
      const auto self = static_cast<size_t>(thread), next = static_cast<size_t>((thread + 1) % n);
      for (int phase = 0; phase < kPhases; ++phase) {
        auto& from = phase % 2 ? b : a;
        auto& to = phase % 2 ? a : b;
        to[self].value = from[next].value + 1;
        pool.barrier();
      }
      a[self].value = b[self].value;
    };
    for (int run = 0; run < kRuns; ++run) pool.run(f);
    for (int i = 0; i < n; ++i) {
      CHECK(a[static_cast<size_t>(i)].value == (i + int64_t{kRuns} * kPhases) % n + int64_t{kRuns} * kPhases);
    }
    CHECK(pool.barrier_count() == uint64_t{kRuns} * kPhases);
  }
}

TEST_CASE("an exception of any one thread reaches the caller, the others leave their barriers, the pool lives on") {
  for (int n : kSizes) {
    ThreadPool pool(n);
    for (int thrower = 0; thrower < n; ++thrower) {
      for (int at = 0; at < 4; ++at) {
        std::atomic<int> late{0};
        auto f = [&](int thread) {
          for (int phase = 0; phase < 4; ++phase) {
            if (thread == thrower && phase == at) throw std::runtime_error("thread " + std::to_string(thread));
            pool.barrier();
            late += phase >= at;
          }
        };
        CHECK_THROWS_WITH_AS(pool.run(f), doctest::Contains(("thread " + std::to_string(thrower)).c_str()), std::runtime_error);
        CHECK(late == 0);
      }
    }
    std::atomic<int> calls{0};
    auto f = [&](int) {
      pool.barrier();
      ++calls;
      pool.barrier();
    };
    pool.run(f);
    CHECK(calls == n);
  }
}

TEST_CASE("an exception without any barrier reaches the caller after all threads have left") {
  for (int n : kSizes) {
    ThreadPool pool(n);
    std::atomic<int> others{0};
    auto f = [&](int thread) {
      if (thread == n - 1) throw 7;
      ++others;
    };
    CHECK_THROWS_AS(pool.run(f), int);
    CHECK(others == n - 1);
  }
}

TEST_CASE("when all threads throw, one of their exceptions arrives, run after run") {
  for (int n : kSizes) {
    ThreadPool pool(n);
    for (int run = 0; run < 200; ++run) {
      auto f = [&](int thread) {
        if (run % 2) pool.barrier();
        throw thread;
      };
      int caught = -1;
      try {
        pool.run(f);
      } catch (int thread) {
        caught = thread;
      }
      CHECK(caught >= 0);
      CHECK(caught < n);
    }
  }
}

TEST_CASE("a failed MOE_CHECK inside a run arrives as BugError") {
  ThreadPool pool(2);
  auto f = [&](int thread) {
    MOE_CHECK(thread == 0);
    pool.barrier();
  };
  CHECK_THROWS_AS(pool.run(f), moe::BugError);
}

TEST_CASE("run inside run, barrier outside of run and a pool of no threads are bugs that throw") {
  for (int n : {1, 3}) {
    ThreadPool pool(n);
    CHECK_THROWS_AS(pool.barrier(), moe::BugError);
    auto nothing = [](int) {};
    auto nested = [&](int thread) {
      if (thread == 0) pool.run(nothing);
    };
    CHECK_THROWS_AS(pool.run(nested), moe::BugError);
    CHECK_NOTHROW(pool.run(nothing));
  }
  CHECK_THROWS_AS(ThreadPool(0), moe::BugError);
  CHECK_THROWS_AS(ThreadPool(-3), moe::BugError);
}

TEST_CASE("different threads may run at different times") {
  ThreadPool pool(3);
  std::atomic<int> calls{0};
  for (int i = 0; i < 50; ++i) {
    std::thread caller([&] {
      auto f = [&](int) {
        pool.barrier();
        ++calls;
      };
      pool.run(f);
    });
    caller.join();
  }
  CHECK(calls == 150);
}

TEST_CASE("pools that are never used, or used once, end cleanly") {
  for (int i = 0; i < 100; ++i) {
    ThreadPool pool(1 + i % 4);
    auto nothing = [](int) {};
    if (i % 2) pool.run(nothing);
  }
}

TEST_CASE("run and barrier allocate nothing") {
#if !MOE_TEST_SANITIZED
  for (int n : kSizes) {
    ThreadPool pool(n);
    auto f = [&](int) {
      pool.barrier();
      pool.barrier();
    };
    pool.run(f);
    const uint64_t before = moe::test::allocation_count();
    for (int i = 0; i < 100; ++i) pool.run(f);
    CHECK(moe::test::allocation_count() == before);
  }
#else
  MESSAGE("skipped: the sanitizer owns operator new");
#endif
}

TEST_CASE("split_range cuts [0, n) into adjacent parts at multiples of the grain, as even as the grain allows") {
  for (int64_t n : {0, 1, 7, 64, 1000}) {
    for (int count : {1, 2, 3, 8, 100}) {
      for (int64_t grain : {1, 4, 32}) {
        int64_t end = 0;
        const int64_t most = ((n + grain - 1) / grain + count - 1) / count * grain;
        for (int i = 0; i < count; ++i) {
          const moe::Range r = moe::split_range(n, i, count, grain);
          CHECK(r.begin == end);
          CHECK(r.end >= r.begin);
          CHECK(r.end - r.begin <= most);
          CHECK((r.begin % grain == 0 || r.begin == n));
          end = r.end;
        }
        CHECK(end == n);
      }
    }
  }
}

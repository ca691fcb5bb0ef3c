// A pool whose workers run the same function together, with a barrier between phases.
//
// Goals: no allocation and no lock per run; a barrier of about a microsecond while everyone is running; no burnt CPU while idle
// or when there are more threads than processors. Whoever waits spins a bounded time (100 µs inside a run, 50 µs between runs,
// next to nothing when there are more threads than processors), then sleeps on a futex (std::atomic::wait). Rejected: OpenMP (a
// dependency, and its barrier cannot sleep), work stealing (order of work would depend on timing; ours may, results never do).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <thread>
#include <vector>

namespace moe {

// Physical cores this process may use: affinity mask, SMT siblings counted once, cgroup v1/v2 CPU quota rounded down. At
// least 1.
int default_thread_count();

// One run at a time, none inside another; run() may be called from any one thread at a time (the caller works as thread 0).
class ThreadPool {
 public:
  // n_threads ≥ 1; starts n_threads − 1 workers, throws std::system_error when the system refuses them.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return n_threads_; }

  // Calls fn(context, thread index) on every thread and returns when all are done. An exception thrown by any of them is
  // rethrown here, after all have left; a thread that throws counts as arrived at every later barrier.
  using Function = void (*)(void* context, int thread);
  void run(Function fn, void* context);

  template <class F>
  void run(F& f) {
    run([](void* c, int thread) { (*static_cast<F*>(c))(thread); }, &f);
  }

  // Only inside run(): waits until every thread has called it. When another thread of this run has thrown, it throws something
  // that only run() catches: let it through.
  void barrier();

  // Barriers passed since construction (by all threads together counted once): a test and moe-bench read it.
  uint64_t barrier_count() const { return barrier_count_.load(std::memory_order_relaxed); }

 private:
  struct State;
  void worker(int thread);
  void stop();
  int n_threads_;
  std::atomic<uint64_t> barrier_count_{0};
  std::unique_ptr<State> state_;
  std::vector<std::thread> workers_;
};

// The part of [0, n) that thread `index` of `count` owns, cut at multiples of `grain`.
struct Range {
  int64_t begin, end;
};
inline Range split_range(int64_t n, int index, int count, int64_t grain = 1) {
  const int64_t blocks = (n + grain - 1) / grain;
  const int64_t b = blocks * index / count * grain;
  const int64_t e = blocks * (index + 1) / count * grain;
  return {b < n ? b : n, e < n ? e : n};
}

}  // namespace moe

// Where the time of one thread goes, node by node: what Executable::profile() adds up. Off, it costs a branch where a node or a
// barrier ends; on, two clock readings there (some 0.3 µs: the system keeps the processor time of a thread).
#pragma once

#include <chrono>
#include <ctime>
#include <utility>
#include <vector>

namespace moe::cpu {

// Of one thread, in seconds, counted since compile().
struct ThreadTimes {
  std::vector<double> busy, waiting;  // (n nodes)
  double preempted = 0;

  explicit ThreadTimes(size_t n_nodes) : busy(n_nodes), waiting(n_nodes) {}
};

// Runs from when it is made to the end of a run; every call books the time since the last one.
class Stopwatch {
 public:
  explicit Stopwatch(ThreadTimes* times) : times_(times) {  // null: off
    if (times_) last_ = read();
  }

  // Work is counted in the thread's processor time, so that what else the machine does falls on no op.
  void worked(size_t node) {
    if (!times_) return;
    const Reading lap = next_lap();
    times_->busy[node] += lap.processor, times_->preempted += lap.clock - lap.processor;
  }

  // At a barrier, because this node was done here earlier than on other threads. Whether it spins or sleeps does not matter.
  void waited(size_t node) {
    if (times_) times_->waiting[node] += next_lap().clock;
  }

 private:
  struct Reading {
    double clock = 0, processor = 0;  // seconds
  };
  static Reading read() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return {std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(),
            static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec)};
  }
  Reading next_lap() {
    const Reading now = read(), last = std::exchange(last_, now);
    return {now.clock - last.clock, now.processor - last.processor};
  }

  ThreadTimes* times_;
  Reading last_;
};

}  // namespace moe::cpu

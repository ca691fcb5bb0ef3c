// moe-bench MODEL --profile: where the time of a test goes, one row an op and format of weights.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/bench_work.h"

namespace moe::tools {

struct ProfileRow {
  std::string op;      // "linear q4_k", "rms_norm"
  int nodes = 0;       // of the graph
  double busy = 0;     // thread-seconds at work
  double waiting = 0;  // thread-seconds until the other threads were done with these nodes
  BenchWork work;
};

// Of all repetitions of a test together. A thread-second is a second of one thread: a test of s seconds has s · n_threads.
struct BenchProfile {
  int n_threads = 1;
  double seconds = 0;            // of the test
  double run_seconds = 0;        // of them inside Executable::run()
  double preempted = 0;          // thread-seconds in which other programs had the processors
  std::vector<ProfileRow> rows;  // most time first

  double thread_seconds() const { return seconds * n_threads; }
  double busy() const;      // of all rows
  double waiting() const;   // of all rows
  double starting() const;  // waking threads for runs and collecting them, thread-seconds
  double outside() const;   // between runs: choosing tokens, checking logits, thread-seconds
};

// `graph` is what ran, `before` and `after` its profiles around `seconds` seconds of `repetitions` of a test.
BenchProfile make_profile(const Graph& graph, const ExecutableProfile& before, const ExecutableProfile& after, int n_threads,
                          double seconds, const BenchTest& test, int repetitions, double k_mean, bool exact);

// A table for people. Seconds are those of the clock: thread-seconds / n_threads, of one repetition.
std::string profile_text(const BenchProfile& profile, int repetitions, const cpu::Ceilings& ceilings);
nlohmann::ordered_json profile_json(const BenchProfile& profile, int repetitions, const cpu::Ceilings& ceilings);

}  // namespace moe::tools

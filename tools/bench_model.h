// moe-bench MODEL: how fast prompts are read and tokens made, and how close that is to what the machine can do.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backends/cpu/ceilings.h"
#include "models/session.h"
#include "tools/model_options.h"

namespace moe::tools {

struct BenchArguments {
  ModelArguments model;
  std::vector<int> n_prompt = {512}, n_gen = {128}, n_depth = {0}, n_batch = {512}, n_threads;
  int repetitions = 5;
  int n_seqs = 1;
  std::string format = "md";
};

// One line of the result: a prompt of n_prompt tokens, or n_gen tokens one after the other in each of n_seqs sequences, behind
// n_depth tokens of context.
struct BenchTest {
  int n_prompt = 0, n_gen = 0, n_depth = 0, n_batch = 512, n_seqs = 1;

  int tokens() const { return n_prompt + n_gen * n_seqs; }
  std::string name() const;  // "pp512", "tg128 x4 @ d4096"
};

// What a repetition costs by the graph's own prices, and how long the machine's ceilings would take for it.
struct BenchWork {
  double bytes_read = 0;
  double int8_macs = 0;  // with weights of a quantised format, unless --exact
  double bf16_macs = 0;  // with weights of bf16, unless --exact
  double f32_macs = 0;   // all others
  double macs() const { return int8_macs + bf16_macs + f32_macs; }
};

struct BenchResult {
  BenchTest test;
  BenchWork work;
  std::vector<double> seconds;  // (repetitions)
  std::string time;             // when it began, ISO 8601

  double mean_seconds() const;
  double mean_rate() const;       // tokens/s
  double rate_deviation() const;  // of a sample
};

double sample_mean(const std::vector<double>& x);
double sample_deviation(const std::vector<double>& x);  // 0 with less than two

BenchWork work_of(const ModelGraph& graph, const BenchTest& test, double k_mean, bool exact);

// Calls `on_result` for each result as it comes; the model is that of the result's number of threads.
using BenchSink = std::function<void(const Model&, const BenchResult&)>;
Status run_bench(Program& program, const BenchArguments& arguments, const BenchSink& on_result);

}  // namespace moe::tools

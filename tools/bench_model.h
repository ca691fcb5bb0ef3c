// moe-bench MODEL: how fast prompts are read and tokens made, and how close that is to what the machine can do.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/session.h"
#include "tools/bench_peers.h"
#include "tools/bench_profile.h"
#include "tools/model_options.h"

namespace moe::tools {

struct BenchArguments {
  ModelArguments model;
  std::vector<int> n_prompt = {512}, n_gen = {128}, n_depth = {0}, n_batch = {512}, n_threads;
  int repetitions = 5;
  int n_seqs = 1;
  bool profile = false;
  std::vector<std::string> peers;  // as parse_peer() reads them
  bool peers_may_fail = false;
  std::string format = "md";
};

struct BenchResult {
  BenchTest test;
  BenchWork work;                       // of a repetition
  std::optional<BenchProfile> profile;  // with BenchArguments::profile
  std::vector<double> seconds;          // (repetitions)
  std::vector<double> reads;            // bytes/s that memory gave beside each repetition; none of a prompt
  std::vector<PeerResult> peers;        // as BenchArguments::peers
  std::string time;                     // when it began, ISO 8601

  std::vector<double> rates() const;  // tokens/s of each repetition
  double mean_seconds() const;
  double mean_rate() const;       // tokens/s
  double rate_deviation() const;  // of a sample
};

double sample_mean(const std::vector<double>& x);
double sample_deviation(const std::vector<double>& x);  // 0 with less than two

// Calls `on_result` for each result as it comes; the model is that of the result's number of threads.
using BenchSink = std::function<void(const Model&, const BenchResult&)>;
Status run_bench(Program& program, const BenchArguments& arguments, const BenchSink& on_result);

}  // namespace moe::tools

// What moe-bench runs, and what that costs by the graph's own prices.
#pragma once

#include <string>

#include "backends/cpu/ceilings.h"
#include "tensor/backend.h"

namespace moe::tools {

// One line of the result: a prompt of n_prompt tokens, or n_gen tokens one after the other in each of n_seqs sequences, behind
// n_depth tokens of context.
struct BenchTest {
  int n_prompt = 0, n_gen = 0, n_depth = 0, n_batch = 512, n_seqs = 1;

  int tokens() const { return n_prompt + n_gen * n_seqs; }
  std::string name() const;  // "pp512", "tg128 x4 @ d4096"
};

struct BenchWork {
  double bytes_read = 0;
  double int8_macs = 0;  // with weights of a quantised format, unless exact
  double bf16_macs = 0;  // with weights of bf16, and of attention over queries rounded to bf16, unless exact
  double f32_macs = 0;   // all others

  double macs() const { return int8_macs + bf16_macs + f32_macs; }
  BenchWork& add(const BenchWork& other, double times = 1);
};

// Of one repetition, whose tokens use k_mean experts each.
BenchWork work_of(const Graph& graph, const Node& node, const BenchTest& test, double k_mean, bool exact);
BenchWork work_of(const Graph& graph, const BenchTest& test, double k_mean, bool exact);

// The time that the ceilings would take, as a share of `seconds`: 1 is as fast as the machine multiplies. Where it cannot
// multiply bfloat16, such weights are widened to float32.
double share_of_peak(const BenchWork& work, const cpu::Ceilings& ceilings, double seconds);

}  // namespace moe::tools

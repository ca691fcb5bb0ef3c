// moe-bench topology: what a topology buys on this machine. The full model, the same under the topology, and the topology's own
// file, side by side: speed, and memory of a process of its own each.
#pragma once

#include <optional>
#include <string>

#include "tools/bench_decode.h"
#include "tools/model_options.h"

namespace moe::tools {

struct TopologyBenchArguments {
  ModelArguments model;
  std::string keep, device;  // where to leave the specialised file, "": nowhere; device profile, "": none
  DecodeOptions decode;
  int rounds = 5, n_threads = 0;
};
void add_topology_bench_command(CLI::App& app, TopologyBenchArguments& arguments);

struct TopologyRun {
  double ms = 0;             // median of a token
  double prompt_rate = 0;    // tokens/s
  double weight_bytes = 0;   // of the file, mapped and touched
  double private_bytes = 0;  // the process's own memory: caches, activations, tables
  double resident_bytes() const { return weight_bytes + private_bytes; }
};
// Loads the model and decodes in a child process. For callers without threads: it forks. A null topology: the file's own.
Result<TopologyRun> run_in_child(const Program& program, const ModelArguments& model, const RoutingTopology* topology,
                                 const DecodeOptions& options, int n_threads);

Status bench_topology(Program& program, TopologyBenchArguments& arguments);

}  // namespace moe::tools

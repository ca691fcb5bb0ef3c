// moe-bench MODEL --vs COMMAND: the same test by another engine's benchmark, run by run beside ours, so that what else the
// machine does meets both alike.
//
// A peer is a shell command, `name=command` or just the command, to which the test's options are appended:
//   llama-bench (llama.cpp, ik_llama.cpp)  -m MODEL -t THREADS -p P -n 0 -r 1 -o json [-d DEPTH]
//   llama-sweep-bench (ik_llama.cpp)       -m MODEL -t THREADS -c CONTEXT -b P -ub P -n 1 --output-format jsonl
// The latter (known by "sweep-bench" in its command) measures a whole series of depths and is asked for one: ik_llama.cpp's
// llama-bench knows no -d. It leaves a file llama.log in the current folder.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "tools/bench_work.h"

namespace moe::tools {

struct Peer {
  std::string name, command;
  bool sweeps() const { return command.find("sweep-bench") != std::string::npos; }
};

// kInvalidArgument without a command.
Result<Peer> parse_peer(const std::string& text);

// The command line for one run of a test. kUnsupported for tests that the peer has no options for.
Result<std::string> peer_command(const Peer& peer, const std::string& model, const BenchTest& test, int n_threads);

// The tokens/s of a test in what a peer wrote; kCorrupt when there are none.
Result<double> parse_llama_bench(std::string_view json, const BenchTest& test);
Result<double> parse_sweep_bench(std::string_view lines, const BenchTest& test);

// Runs a peer once. Errors name the peer and show the last line that it wrote to stderr.
Result<double> run_peer(const Peer& peer, const std::string& model, const BenchTest& test, int n_threads);

// What a peer reached in each of the repetitions.
struct PeerResult {
  Peer peer;
  std::vector<double> rates;  // tokens/s
  bool failed = false;        // then there are none
};

double median(std::vector<double> x);         // 0 of nothing
double spread(const std::vector<double>& x);  // (most − least) / 2, as a share of the median

}  // namespace moe::tools

// The contract of a backend: what a newcomer implements to run moe's graphs on another device. Nothing above this layer knows
// which device it talks to; `backends/backend_registry.cpp` is the one table of them.
//
// Life of a model:   create backend → prepare_weight() once for every weight → compile() a graph → bind() inputs and states
//                    → run() per batch → read() outputs.
//
// What every backend promises
//  1. Results depend on the graph, weights, inputs and the backend's options only: never on the number of threads, on timing or
//     on what ran before. Reductions have a fixed order; no float atomics.
//  2. run() neither allocates nor compiles; everything it needs is reserved in compile().
//  3. ids of −1 in routed slots mean "no work": the slot's expert is not read and its output counts as 0.
//  4. Expert count, k, widths and masks are runtime numbers of each layer, read from the bound routing tables at each run.
//  5. Bad requests return a Status. Nothing aborts, prints or throws (except BugError for our own broken promises).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/log.h"
#include "tensor/buffer.h"
#include "tensor/graph.h"

namespace moe {

struct BackendOptions {
  int n_threads = 0;   // 0: default_thread_count()
  std::string isa;     // CPU: forces a set of kernels, as MOE_ISA does
  bool exact = false;  // activations stay in float32; otherwise backends may round them to int8 or bfloat16 blocks
  LogSink log;
};

struct BackendInfo {
  std::string name;         // "cpu", "cuda:0"
  std::string description;  // "AMD EPYC 9555, avx512 (vnni, bf16), 2 threads"
  std::string isa;          // CPU: the kernel set in use
  size_t memory_bytes = 0;  // of the device; 0 when unknown
  int n_threads = 1;
  bool exact = false;  // as BackendOptions asked
};

struct CompileOptions {
  int64_t max_tokens = 512;
  int64_t max_outputs = 512;
  bool profile = false;  // measure what Executable::profile() tells; results stay the same bits
  // Products may add in another order than runs of other sizes do: faster with many tokens. Still the same bits for any number
  // of threads.
  bool throughput = false;
};

// Measured while running; all counted since compile().
struct ExecutableStats {
  uint64_t runs = 0;
  uint64_t barriers = 0;   // CPU: times all threads met
  size_t arena_bytes = 0;  // everything compile() reserved
};

// Where the time of all runs since compile() went, in seconds. Devices with several threads (or queues) sum over them:
// busy + waiting + preempted + what starting and ending runs takes = seconds · n_threads.
struct ExecutableProfile {
  double seconds = 0;                 // inside run()
  double preempted = 0;               // other programs had the device
  std::vector<double> busy, waiting;  // (nodes of graph()): at work; then idle until all others were done with it as well
};

// A graph ready to run. Not thread-safe. Must not outlive its Backend.
class Executable {
 public:
  virtual ~Executable() = default;

  virtual const Graph& graph()
      const = 0;  // after fusing and lowering; value ids of inputs, states and outputs are the caller's

  // Points an input or state at memory the backend can read (host memory for inputs). Takes effect at the next run(); cheap, so
  // a topology is swapped by binding other tables. The memory must stay valid until it is bound anew. Symbolic extents may be
  // given at their maximum. kInvalidArgument when dtype or shape differ.
  virtual Status bind(ValueId value, const Tensor& tensor) = 0;

  // Runs the graph over n_tokens and n_outputs rows, 0 < n_tokens ≤ max_tokens, 0 ≤ n_outputs ≤ max_outputs. Every input and
  // state must be bound.
  virtual Status run(const RunShape& shape) = 0;

  // A host-readable view of an output of the last run, valid until the next one.
  virtual Result<Tensor> read(ValueId value) = 0;

  virtual ExecutableStats stats() const = 0;

  // Empty vectors unless compiled with CompileOptions::profile, and from backends that do not measure.
  virtual ExecutableProfile profile() const { return {}; }
};

// Thread-safe unless said otherwise; runs of executables of one backend happen one after another.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual const BackendInfo& info() const = 0;

  // Whether compile() can run this node as it is. False for a fused op makes the fuser keep its simple parts; false for a
  // simple op makes compile() fail with kUnsupported, naming op and dtypes.
  virtual bool supports(const Graph& graph, const Node& node) const = 0;

  // Zero-filled memory for states. kOutOfMemory names the bytes wanted.
  virtual Result<Buffer> allocate(size_t bytes) = 0;
  virtual Status write(Buffer& to, size_t offset, const void* from, size_t bytes) = 0;
  virtual Status read(const Buffer& from, size_t offset, void* to, size_t bytes) = 0;

  // Makes a weight ready for this backend's kernels: uploads or repacks it, or returns the host view itself where the file's
  // own layout is as good (then `host` must outlive the backend). Called once a weight; the backend owns what it makes.
  virtual Result<Tensor> prepare_weight(const std::string& name, const Tensor& host) = 0;

  // Checks, lowers and plans. Weights of the graph must carry the data that prepare_weight() returned.
  virtual Result<std::unique_ptr<Executable>> compile(const Graph& graph, const CompileOptions& options) = 0;
};

}  // namespace moe

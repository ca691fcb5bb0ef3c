// A graph compiled for the CPU: schedule, memory and the loop that threads run.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "backends/cpu/op_context.h"
#include "backends/cpu/schedule.h"
#include "tensor/backend.h"
#include "tensor/plan.h"

namespace moe::cpu {

class CpuExecutable final : public Executable {
 public:
  CpuExecutable(Graph graph, const CompileOptions&, const KernelTable&, ThreadPool&, std::mutex& running);

  const Graph& graph() const override { return graph_; }
  Status bind(ValueId value, const Tensor& tensor) override;
  Status run(const RunShape& shape) override;
  Result<Tensor> read(ValueId value) override;
  ExecutableStats stats() const override { return stats_; }
  ExecutableProfile profile() const override;

 private:
  Status check_ready(const RunShape&) const;
  void run_thread(const RunShape&, int thread);
  void place_temps();

  // Addresses of all values as one thread sees them, under one of the two schedules.
  using Addresses = std::vector<void*>;

  Graph graph_;
  CompileOptions options_;
  const KernelTable& kernels_;
  ThreadPool& pool_;
  std::mutex& running_;  // of the backend: its pool runs one executable at a time
  Schedule schedule_;
  MemoryPlan plan_few_, plan_many_;
  AlignedBytes shared_;                // arena of values that threads share
  std::vector<AlignedBytes> private_;  // (threads − 1) copies of replicated values; thread 0's are in the shared arena
  std::vector<Arena> scratch_;         // (threads)
  AlignedBytes meeting_;               // OpContext::shared
  std::vector<Addresses> few_, many_;  // (threads), (1): with many tokens every thread sees the same
  std::unique_ptr<std::atomic<int64_t>[]> tasks_;  // (n nodes)
  std::vector<ThreadTimes> times_;                 // (threads); none unless profiled
  double seconds_ = 0;                             // inside run(), when profiled
  RunShape last_run_{0, 0, 0, 0};
  ExecutableStats stats_;
};

}  // namespace moe::cpu

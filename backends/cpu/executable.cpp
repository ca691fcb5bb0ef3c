#include "backends/cpu/executable.h"

#include <algorithm>
#include <chrono>

namespace moe::cpu {
namespace {

size_t max_scratch(const Graph& g, const CompileOptions& o) {
  size_t most = 0;
  for (const Node& n : g.nodes) most = std::max(most, driver(n.op, o.throughput).scratch_bytes(g, n, o.max_tokens));
  return most;
}

size_t max_meeting(const Graph& g, int parts) {
  size_t most = 0;
  for (const Node& n : g.nodes)
    if (const auto bytes = driver(n.op).shared_bytes) most = std::max(most, bytes(g, n, parts));
  return most;
}

bool same_static_extents(const Shape& wanted, const Shape& given) {
  if (wanted.rank != given.rank) return false;
  for (int i = 0; i < wanted.rank; ++i)
    if (wanted[i] >= 0 && wanted[i] != given[i]) return false;
  return true;
}

}  // namespace

CpuExecutable::CpuExecutable(Graph graph, const CompileOptions& options, const KernelTable& kernels, ThreadPool& pool,
                             std::mutex& running)
    : graph_(order_by_phase(std::move(graph))),
      options_(options),
      kernels_(kernels),
      pool_(pool),
      running_(running),
      schedule_(make_schedule(graph_)) {
  plan_few_ =
      plan_memory(graph_, schedule_.phase, std::min(kFewTokens, options.max_tokens), std::min(kFewTokens, options.max_outputs));
  plan_many_ = plan_memory(graph_, schedule_.phase, options.max_tokens, options.max_outputs);
  const size_t shared_bytes = std::max(plan_few_.arena_bytes, plan_many_.arena_bytes);
  shared_ = allocate_aligned(shared_bytes);
  const size_t scratch_bytes = max_scratch(graph_, options);
  const auto n_threads = static_cast<size_t>(pool.size());
  for (size_t t = 0; t < n_threads; ++t) {
    if (t > 0) private_.push_back(allocate_aligned(plan_few_.arena_bytes));
    scratch_.emplace_back(scratch_bytes);
  }
  if (options.profile) times_.assign(n_threads, ThreadTimes(graph_.nodes.size()));
  const size_t meeting_bytes = max_meeting(graph_, pool.size());
  meeting_ = allocate_aligned(meeting_bytes);
  tasks_ = std::make_unique<std::atomic<int64_t>[]>(graph_.nodes.size());
  stats_.arena_bytes = shared_bytes + (n_threads - 1) * plan_few_.arena_bytes + n_threads * scratch_bytes + meeting_bytes;
  place_temps();
}

void CpuExecutable::place_temps() {
  const auto n_threads = static_cast<size_t>(pool_.size());
  few_.assign(n_threads, Addresses(graph_.values.size(), nullptr));
  many_.assign(1, Addresses(graph_.values.size(), nullptr));
  for (size_t i = 0; i < graph_.values.size(); ++i) {
    const Value& v = graph_.values[i];
    if (v.kind != ValueKind::kTemp) {
      for (Addresses& a : few_) a[i] = v.data;
      many_[0][i] = v.data;
      continue;
    }
    if (plan_many_.offset[i] == MemoryPlan::kNoOffset) continue;  // written and read by no node
    many_[0][i] = shared_.get() + plan_many_.offset[i];
    for (size_t t = 0; t < n_threads; ++t) {
      std::byte* arena = t > 0 && schedule_.replicated[i] ? private_[t - 1].get() : shared_.get();
      few_[t][i] = arena + plan_few_.offset[i];
    }
  }
}

Status CpuExecutable::bind(ValueId id, const Tensor& tensor) {
  if (id < 0 || static_cast<size_t>(id) >= graph_.values.size())
    return Status::InvalidArgument("bind: no value " + std::to_string(id));
  const Value& v = graph_.value(id);
  if (v.kind != ValueKind::kInput && v.kind != ValueKind::kState)
    return Status::InvalidArgument("bind: '" + v.name + "' is neither input nor state");
  if (!tensor.data || tensor.dtype != v.dtype || !same_static_extents(v.shape, tensor.shape))
    return Status::InvalidArgument("bind '" + v.name + "': wanted " + traits(v.dtype).name + " " + to_string(v.shape) +
                                   ", given " + traits(tensor.dtype).name + " " + to_string(tensor.shape));
  const auto i = static_cast<size_t>(id);
  for (Addresses& a : few_) a[i] = tensor.data;
  many_[0][i] = tensor.data;
  return Status::Ok();
}

Status CpuExecutable::check_ready(const RunShape& s) const {
  if (s.n_tokens < 1 || s.n_tokens > options_.max_tokens || s.n_outputs < 0 || s.n_outputs > options_.max_outputs)
    return Status::OutOfRange("run: " + std::to_string(s.n_tokens) + " tokens and " + std::to_string(s.n_outputs) +
                              " outputs, compiled for " + std::to_string(options_.max_tokens) + " and " +
                              std::to_string(options_.max_outputs));
  for (size_t i = 0; i < graph_.values.size(); ++i) {
    const Value& v = graph_.values[i];
    if (v.kind != ValueKind::kTemp && !many_[0][i]) return Status::InvalidArgument("run: '" + v.name + "' has no memory bound");
  }
  return Status::Ok();
}

Status CpuExecutable::run(const RunShape& shape) {
  MOE_TRY(check_ready(shape));
  const std::lock_guard<std::mutex> lock(running_);
  for (size_t i = 0; i < graph_.nodes.size(); ++i) tasks_[i].store(0, std::memory_order_relaxed);
  const uint64_t barriers = pool_.barrier_count();
  const auto start = std::chrono::steady_clock::now();
  auto work = [&](int thread) { run_thread(shape, thread); };
  try {
    pool_.run(work);
  } catch (const BugError& e) {
    return Status::Internal(e.what());
  }
  if (options_.profile) seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  last_run_ = shape;
  ++stats_.runs;
  stats_.barriers += pool_.barrier_count() - barriers;
  return Status::Ok();
}

void CpuExecutable::run_thread(const RunShape& shape, int thread) {
  const bool is_few = shape.n_tokens <= kFewTokens && shape.n_outputs <= kFewTokens;
  const std::vector<Schedule::Step>& steps = is_few ? schedule_.few : schedule_.many;
  const Addresses& addresses = is_few ? few_[static_cast<size_t>(thread)] : many_[0];
  Stopwatch watch(times_.empty() ? nullptr : &times_[static_cast<size_t>(thread)]);
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    if (steps[i].barrier_before && pool_.size() > 1) {
      pool_.barrier();
      watch.waited(i - 1);
    }
    const bool alone = steps[i].replicated;
    driver(graph_.nodes[i].op, options_.throughput)
        .run({graph_, graph_.nodes[i], kernels_, shape, alone ? 0 : thread, alone ? 1 : pool_.size(),
              scratch_[static_cast<size_t>(thread)], meeting_.get(), pool_, tasks_[i], addresses.data(), watch, i});
    watch.worked(i);
  }
}

ExecutableProfile CpuExecutable::profile() const {
  ExecutableProfile sum;
  if (times_.empty()) return sum;
  sum.seconds = seconds_;
  sum.busy.resize(graph_.nodes.size()), sum.waiting.resize(graph_.nodes.size());
  for (const ThreadTimes& t : times_) {
    sum.preempted += t.preempted;
    for (size_t i = 0; i < sum.busy.size(); ++i) sum.busy[i] += t.busy[i], sum.waiting[i] += t.waiting[i];
  }
  return sum;
}

Result<Tensor> CpuExecutable::read(ValueId id) {
  if (id < 0 || static_cast<size_t>(id) >= graph_.values.size() || !graph_.value(id).output)
    return Status::InvalidArgument("read: value " + std::to_string(id) + " is no output of the graph");
  const Value& v = graph_.value(id);
  const bool is_few = last_run_.n_tokens <= kFewTokens && last_run_.n_outputs <= kFewTokens;
  Tensor t{(is_few ? few_[0] : many_[0])[static_cast<size_t>(id)], v.dtype, v.shape};
  if (v.shape.per_token()) t.shape.dim[0] = last_run_.n_tokens;
  if (v.shape.per_output()) t.shape.dim[0] = last_run_.n_outputs;
  return t;
}

}  // namespace moe::cpu

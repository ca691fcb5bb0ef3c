#include "backends/cpu/schedule.h"

#include <algorithm>
#include <utility>

#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

constexpr double kReplicatedFlops = 2e5;  // some ten microseconds: where sharing an op begins to pay for its barrier
constexpr double kReplicatedBytes = 1e6;

bool cheap(const Graph& g, const Node& n) {
  if (!driver(n.op).replicable) return false;
  const Cost c = cost(g, n, RunShape{});
  return c.flops < kReplicatedFlops && c.bytes_read + c.bytes_written < kReplicatedBytes;
}

// Values that some part wrote and not every part may read yet.
class Unsynced {
 public:
  explicit Unsynced(size_t n) : dirty_(n, false), split_(n, Split::kOther) {}
  bool touches(const std::vector<ValueId>& ids, Split reader) const {
    for (const ValueId id : ids) {
      if (id == kNone || !dirty_[static_cast<size_t>(id)]) continue;
      if (reader == Split::kOther || split_[static_cast<size_t>(id)] != reader) return true;
    }
    return false;
  }
  void mark(const std::vector<ValueId>& ids, Split writer) {
    for (const ValueId id : ids) dirty_[static_cast<size_t>(id)] = true, split_[static_cast<size_t>(id)] = writer;
  }
  void clear() { dirty_.assign(dirty_.size(), false); }

 private:
  std::vector<bool> dirty_;
  std::vector<Split> split_;  // of the writer
};

// What a node writes: its outputs, and the states that it updates in place.
std::vector<ValueId> written_by(const Graph& g, const Node& n) {
  std::vector<ValueId> ids = n.out;
  for (const ValueId id : n.in)
    if (id != kNone && g.value(id).kind == ValueKind::kState) ids.push_back(id);
  return ids;
}

}  // namespace

// A replicable driver takes my_range() of the rows of its output and reads the same rows, but for select_rows, which gathers.
// Rows of rank-3 values are slots, cut elsewhere than tokens.
Split split_of(const Graph& g, const Node& n) {
  if (!driver(n.op).replicable || n.op == Op::kSelectRows) return Split::kOther;
  const auto all_out = [&](auto&& is) {
    return std::all_of(n.out.begin(), n.out.end(), [&](ValueId id) { return g.value(id).shape.rank == 2 && is(g.value(id)); });
  };
  if (all_out([](const Value& v) { return v.shape.per_token(); })) return Split::kTokenRows;
  return all_out([](const Value& v) { return v.shape.per_output(); }) ? Split::kOutputRows : Split::kOther;
}

// A node's phase is how many barriers of a few-token run must lie before it: one behind every shared-out node on its longest
// path. Nodes that meet the same state keep their order.
Graph order_by_phase(Graph g) {
  std::vector<int> ready(g.values.size(), 0);  // the first phase in which everybody may read the value
  std::vector<std::pair<int, size_t>> order;
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    const Node& n = g.nodes[i];
    int phase = 0;
    for (const ValueId id : n.in)
      if (id != kNone) phase = std::max(phase, ready[static_cast<size_t>(id)]);
    const int after = phase + (cheap(g, n) ? 0 : 1);
    for (const ValueId id : n.out) ready[static_cast<size_t>(id)] = after;
    for (const ValueId id : n.in)
      if (id != kNone && g.value(id).kind == ValueKind::kState) ready[static_cast<size_t>(id)] = after;
    order.emplace_back(phase, i);
  }
  std::sort(order.begin(), order.end());
  std::vector<Node> nodes;
  nodes.reserve(order.size());
  for (const auto& [phase, i] : order) nodes.push_back(std::move(g.nodes[i]));
  g.nodes = std::move(nodes);
  return g;
}

Schedule make_schedule(const Graph& g) {
  Schedule s;
  s.replicated.assign(g.values.size(), false);
  Unsynced few(g.values.size()), many(g.values.size());
  int phase = 0;
  for (const Node& n : g.nodes) {
    const Split split = split_of(g, n);
    Schedule::Step f, m;
    f.replicated = cheap(g, n);
    f.barrier_before = few.touches(n.in, Split::kOther);
    // Memory is planned by the phases of `few`, so its barriers must stand in `many` too.
    m.barrier_before = f.barrier_before || many.touches(n.in, split);
    if (f.barrier_before) few.clear(), ++phase;
    if (m.barrier_before) many.clear();
    if (f.replicated) {
      for (const ValueId id : n.out) s.replicated[static_cast<size_t>(id)] = true;
    } else {
      few.mark(written_by(g, n), Split::kOther);
    }
    many.mark(written_by(g, n), split);
    s.few.push_back(f);
    s.many.push_back(m);
    s.phase.push_back(phase);
  }
  return s;
}

}  // namespace moe::cpu

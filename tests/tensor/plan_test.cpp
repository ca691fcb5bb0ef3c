#include "tensor/plan.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "core/rng.h"
#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

constexpr int64_t kMaxTokens = 5, kMaxOutputs = 3;

size_t aligned(size_t n) { return (n + kPlanAlignment - 1) / kPlanAlignment * kPlanAlignment; }

std::vector<int> own_phases(const Graph& g) {
  std::vector<int> phase(g.nodes.size());
  for (size_t i = 0; i < phase.size(); ++i) phase[i] = static_cast<int>(i);
  return phase;
}

// The phases in which a temp must keep its bytes, by definition and one by one.
std::set<int> live_phases(const Graph& g, const std::vector<int>& phase, ValueId id) {
  int begin = -1, end = -1;
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    const Node& n = g.nodes[i];
    if (std::count(n.out.begin(), n.out.end(), id)) begin = end = phase[i];
    if (std::count(n.in.begin(), n.in.end(), id)) end = phase[i];
  }
  if (g.value(id).output) end = phase.back();
  std::set<int> live;
  for (int p = begin; p >= 0 && p <= end; ++p) live.insert(p);
  return live;
}

struct Audit {
  size_t overlaps = 0;     // pairs of values that live together and share a byte
  size_t misplaced = 0;    // beyond the arena, not aligned, or without an offset
  size_t sum = 0;          // bytes without reuse
  size_t lower_bound = 0;  // most bytes that live in one phase
};

Audit audit(const Graph& g, const std::vector<int>& phase, const MemoryPlan& plan) {
  Audit a;
  std::vector<std::pair<ValueId, std::set<int>>> temps;
  for (size_t i = 0; i < g.values.size(); ++i) {
    const auto id = static_cast<ValueId>(i);
    if (const std::set<int> live = live_phases(g, phase, id); !live.empty()) temps.emplace_back(id, live);
  }
  const auto bytes = [&](ValueId id) { return value_bytes(g.value(id), kMaxTokens, kMaxOutputs); };
  const auto offset = [&](ValueId id) { return plan.offset[static_cast<size_t>(id)]; };
  std::vector<size_t> alive(static_cast<size_t>(phase.back()) + 1);
  for (size_t i = 0; i < temps.size(); ++i) {
    const auto& [a_id, a_live] = temps[i];
    a.sum += aligned(bytes(a_id));
    a.misplaced += offset(a_id) % kPlanAlignment != 0 || offset(a_id) + bytes(a_id) > plan.arena_bytes;
    for (const int p : a_live) alive[static_cast<size_t>(p)] += aligned(bytes(a_id));
    for (size_t j = 0; j < i; ++j) {
      const auto& [b_id, b_live] = temps[j];
      const bool together = std::any_of(a_live.begin(), a_live.end(), [&live = b_live](int p) { return live.count(p) > 0; });
      const bool share = offset(a_id) < offset(b_id) + bytes(b_id) && offset(b_id) < offset(a_id) + bytes(a_id);
      a.overlaps += together && share;
    }
  }
  a.lower_bound = *std::max_element(alive.begin(), alive.end());
  return a;
}

// Values of many sizes with readers near and far, some of them outputs.
Graph random_graph(uint64_t seed) {
  GraphFixture f;
  Rng rng(seed);
  std::vector<ValueId> pool = {f.input("a", {kTokens, 64}), f.input("b", {kTokens, 24})};
  const ValueId rows = f.input("rows", {kOutputs}, DType::kI32);
  const auto pick = [&] { return pool[pool.size() - 1 - rng.below(std::min<uint64_t>(pool.size(), 8))]; };
  for (int i = 0; i < 60; ++i) {
    const ValueId a = pick(), b = pick();
    const int64_t n = f.g.value(a).shape.last();
    ValueId made = kNone;
    switch (rng.below(4)) {
      case 0:
        made = n > 400 ? kNone : f.op(Op::kConcat, {a, b}, GroupAttrs{});
        break;
      case 1:
        made = f.op(Op::kSlice, {a}, GroupAttrs{.begin = 0, .end = (n + 1) / 2});
        break;
      case 2:
        made = f.op(Op::kAdd, {a, a});
        break;
      default:
        f.output(f.op(Op::kSelectRows, {a, rows}));
    }
    if (made != kNone) pool.push_back(made);
  }
  return f.g;
}

Graph layers(int n) {
  GraphFixture f;
  const ValueId w1 = f.weight("up", {256, 64}), w2 = f.weight("down", {64, 256});
  ValueId x = f.input("x", {kTokens, 64});
  for (int i = 0; i < n; ++i) {
    const ValueId h = f.op(Op::kSilu, {f.op(Op::kLinear, {x, w1}, ScaleAttrs{})});
    x = f.op(Op::kAdd, {x, f.op(Op::kLinear, {h, w2}, ScaleAttrs{})});
  }
  f.output(x);
  return f.g;
}

TEST_CASE("values that live together never share a byte, whatever the graph and its phases") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    const Graph g = random_graph(seed);
    std::vector<int> phase = own_phases(g);
    if (seed % 2) {  // several nodes a phase
      Rng rng(seed, 1);
      for (size_t i = 1; i < phase.size(); ++i) phase[i] = phase[i - 1] + (rng.below(3) == 0);
    }
    const MemoryPlan plan = plan_memory(g, phase, kMaxTokens, kMaxOutputs);
    const Audit a = audit(g, phase, plan);
    CHECK(a.overlaps == 0);
    CHECK(a.misplaced == 0);
    CHECK(plan.arena_bytes >= a.lower_bound);
    CHECK(plan.arena_bytes < a.sum);
  }
}

TEST_CASE("on a stack of layers the arena is at most one residual row block above the least possible, however deep") {
  const Graph g = layers(12);
  const MemoryPlan plan = plan_memory(g, own_phases(g), kMaxTokens, kMaxOutputs);
  const Audit a = audit(g, own_phases(g), plan);
  CHECK(a.overlaps == 0);
  CHECK(plan.arena_bytes <= a.lower_bound + kMaxTokens * 64 * sizeof(float));
  const Graph twice = layers(24);
  CHECK(plan_memory(twice, own_phases(twice), kMaxTokens, kMaxOutputs).arena_bytes == plan.arena_bytes);
}

TEST_CASE("values of one phase have bytes of their own") {
  const Graph g = layers(3);
  const std::vector<int> phase(g.nodes.size(), 7);
  const MemoryPlan plan = plan_memory(g, phase, kMaxTokens, kMaxOutputs);
  const Audit a = audit(g, phase, plan);
  CHECK(a.overlaps == 0);
  CHECK(plan.arena_bytes == a.sum);
}

TEST_CASE("an output keeps its bytes to the end of the run, also when nodes read it before") {
  GraphFixture f;
  const ValueId x = f.input("x", {kTokens, 64});
  const ValueId early = f.op(Op::kSilu, {x});
  f.output(early);
  ValueId y = f.op(Op::kGelu, {early});
  for (int i = 0; i < 4; ++i) y = f.op(Op::kGelu, {y});
  f.output(y);
  const MemoryPlan plan = plan_memory(f.g, own_phases(f.g), kMaxTokens, kMaxOutputs);
  CHECK(audit(f.g, own_phases(f.g), plan).overlaps == 0);
  CHECK(plan.arena_bytes == 3 * aligned(kMaxTokens * 64 * sizeof(float)));
}

TEST_CASE("only temps with a writer get memory") {
  GraphFixture f;
  const ValueId x = f.input("x", {kTokens, 64}), w = f.weight("w", {64, 64});
  const ValueId y = f.op(Op::kLinear, {x, w}, ScaleAttrs{});
  const ValueId orphan = f.value(ValueKind::kTemp, "", {kTokens, 64}, DType::kF32);
  const MemoryPlan plan = plan_memory(f.g, own_phases(f.g), kMaxTokens, kMaxOutputs);
  for (const ValueId id : {x, w, orphan}) CHECK(plan.offset[static_cast<size_t>(id)] == MemoryPlan::kNoOffset);
  CHECK(plan.offset[static_cast<size_t>(y)] == 0);
}

TEST_CASE("the same graph gives the same plan") {
  const Graph g = random_graph(3);
  const MemoryPlan a = plan_memory(g, own_phases(g), kMaxTokens, kMaxOutputs),
                   b = plan_memory(g, own_phases(g), kMaxTokens, kMaxOutputs);
  CHECK(a.offset == b.offset);
  CHECK(a.arena_bytes == b.arena_bytes);
}

TEST_CASE("a graph without nodes needs no memory") {
  const MemoryPlan plan = plan_memory(Graph{}, {}, kMaxTokens, kMaxOutputs);
  CHECK(plan.arena_bytes == 0);
}

TEST_CASE("phases that go back are a bug of the caller") {
  const Graph g = layers(1);
  CHECK_THROWS_AS(plan_memory(g, std::vector<int>{0, 1, 0, 1}, kMaxTokens, kMaxOutputs), BugError);
  CHECK_THROWS_AS(plan_memory(g, std::vector<int>{0, 1}, kMaxTokens, kMaxOutputs), BugError);
}

TEST_CASE("the bytes of a value count its symbolic rows and its blocks") {
  GraphFixture f;
  const auto bytes = [&](Shape s, DType t) { return value_bytes(f.g.value(f.input("", s, t)), 7, 2); };
  CHECK(bytes({kTokens, 64}, DType::kF32) == 7 * 64 * 4);
  CHECK(bytes({kOutputs, 64}, DType::kF32) == 2 * 64 * 4);
  CHECK(bytes({kTokens, 4, 64}, DType::kA8) == 7 * 4 * 96);
  CHECK(bytes({kTokens}, DType::kI32) == 28);
  CHECK(bytes({3, 32}, DType::kQ8_0) == 3 * 34);
  CHECK(bytes({}, DType::kF32) == 4);
}

}  // namespace
}  // namespace moe

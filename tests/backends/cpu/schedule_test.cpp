// Schedules: no value is read before everybody may, and branches of a graph share their barriers.
#include "backends/cpu/schedule.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "models/arch.h"
#include "tensor/fuse.h"
#include "tests/models/model_fixture.h"
#include "tests/tensor/graph_fixture.h"

namespace moe::cpu {
namespace {

using namespace moe::test;

// Number of barriers before each node.
std::vector<int> phases(const std::vector<Schedule::Step>& steps) {
  std::vector<int> p;
  int now = 0;
  for (const Schedule::Step& s : steps) p.push_back(now += s.barrier_before);
  return p;
}

Graph graph_of(const std::string& arch) {
  ModelConfig c = tiny_config(arch);
  auto def = find_arch(arch);
  REQUIRE(def.ok());
  REQUIRE((*def)->configure(c, "test").ok());
  auto g = build_graph(c, {}, nullptr);
  REQUIRE(g.ok());
  return fuse(g->graph, [](const Graph&, const Node&) { return true; });
}

void check_safe(const Graph& g, const Schedule& s) {
  const std::vector<int> few = phases(s.few), many = phases(s.many);
  CHECK(few == s.phase);
  std::vector<int> writer(g.values.size(), -1);
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    for (const ValueId id : g.nodes[i].in) {
      if (id == kNone || writer[static_cast<size_t>(id)] < 0) continue;
      const auto w = static_cast<size_t>(writer[static_cast<size_t>(id)]);
      const Split split = split_of(g, g.nodes[i]);
      const bool own_rows = split != Split::kOther && split == split_of(g, g.nodes[w]);
      CHECK((own_rows || many[w] < many[i]));
      const bool own_copy = s.few[w].replicated;
      CHECK((own_copy || few[w] < few[i]));
    }
    for (const ValueId id : g.nodes[i].out) {
      writer[static_cast<size_t>(id)] = static_cast<int>(i);
      CHECK(s.replicated[static_cast<size_t>(id)] == s.few[i].replicated);
    }
  }
}

}  // namespace

TEST_CASE("what one thread wrote is read behind a barrier, in both schedules of every architecture") {
  for (const ArchDef& arch : all_archs()) {
    CAPTURE(arch.name);
    const Graph plain = graph_of(arch.name), ordered = order_by_phase(plain);
    CHECK(ordered.validate().ok());
    CHECK(ordered.nodes.size() == plain.nodes.size());
    for (const Graph* g : {&plain, &ordered}) check_safe(*g, make_schedule(*g));
    const int before = make_schedule(plain).phase.back(), after = make_schedule(ordered).phase.back();
    CHECK(after <= before);
    if (std::string(arch.name) == "qwen2moe") CHECK(after < before);  // a shared expert beside the routed ones
  }
}

TEST_CASE("two branches from one value meet at one barrier, not two") {
  GraphFixture f;
  const ValueId x = f.input("x", {kTokens, 64});
  const auto product = [&](ValueId from, const char* name) {
    return f.op(Op::kLinear, {from, f.weight(name, {64, 64})}, ScaleAttrs{});
  };
  const ValueId a = f.op(Op::kSilu, {product(x, "a")}), b = f.op(Op::kSilu, {product(x, "b")});
  f.output(f.op(Op::kAdd, {a, b}), "y");
  CHECK(make_schedule(f.g).phase.back() == 2);
  const Graph ordered = order_by_phase(f.g);
  CHECK(make_schedule(ordered).phase.back() == 1);
  CHECK(ordered.nodes.back().op == Op::kAdd);
}

TEST_CASE("ops that split rows alike need no barrier between them, those that gather rows or split slots do") {
  GraphFixture f;
  const ValueId x = f.input("x", {kTokens, 64}), slots = f.input("slots", {kTokens, 4, 64}),
                rows = f.g.add_value({"rows", ValueKind::kInput, DType::kI32, {kOutputs}});
  const ValueId a = f.op(Op::kSilu, {x}), b = f.op(Op::kGelu, {a}), wide = f.op(Op::kSilu, {slots});
  f.output(f.op(Op::kSelectRows, {b, rows}), "y");
  f.output(f.op(Op::kGelu, {wide}), "z");
  const Schedule s = make_schedule(f.g);
  const auto split = [&](size_t i) { return split_of(f.g, f.g.nodes[i]); };
  CHECK(split(0) == Split::kTokenRows);
  CHECK_FALSE(s.many[1].barrier_before);  // gelu of silu, row by row
  CHECK(split(2) == Split::kOther);       // rows are (token, slot)
  CHECK(split(3) == Split::kOther);
  CHECK(s.many[3].barrier_before);  // select_rows reads rows of others
  for (size_t i = 0; i < 3; ++i) CHECK_FALSE(s.many[i].barrier_before);

  const Graph g = order_by_phase(graph_of("qwen3moe"));
  const Schedule whole = make_schedule(g);
  const int per_layer = phases(whole.many).back() / std::max(1, tiny_config("qwen3moe").n_layer);
  CHECK(per_layer <= 11);
}

TEST_CASE("cheap row operations are replicated for few tokens, products are shared") {
  const Graph g = order_by_phase(graph_of("olmoe"));
  const Schedule s = make_schedule(g);
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    const Op op = g.nodes[i].op;
    if (op == Op::kRmsNorm || op == Op::kRoute || op == Op::kRope) CHECK(s.few[i].replicated);
    if (op == Op::kLinear || op == Op::kMoeDown || op == Op::kAttention) CHECK_FALSE(s.few[i].replicated);
    CHECK_FALSE(s.many[i].replicated);
  }
}

}  // namespace moe::cpu

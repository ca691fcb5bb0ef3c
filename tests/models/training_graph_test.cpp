// What GraphOptions::train adds to the graphs of all architectures, and that it adds nothing else.
#include <doctest/doctest.h>

#include <algorithm>

#include "models/arch.h"

namespace moe {
namespace {

ModelGraph example_graph(const ArchDef& arch, bool train) {
  ModelConfig c = arch.example();
  c.n_vocab = 300;
  REQUIRE(arch.configure(c, "example").ok());
  GraphOptions o;
  o.train = train;
  auto m = build_graph(c, o, nullptr);
  REQUIRE_MESSAGE(m.ok(), m.status().message());
  return std::move(m).value();
}

std::vector<const Node*> nodes_of(const Graph& g, Op op) {
  std::vector<const Node*> found;
  for (const Node& n : g.nodes)
    if (n.op == op) found.push_back(&n);
  return found;
}

}  // namespace

TEST_CASE("every router of a training graph reads the same balance") {
  for (const ArchDef& arch : all_archs()) {
    CAPTURE(arch.name);
    const ModelGraph m = example_graph(arch, true);
    REQUIRE(m.graph.validate().ok());
    REQUIRE(m.balance != kNone);
    CHECK(m.graph.value(m.balance).kind == ValueKind::kInput);
    CHECK(m.graph.value(m.balance).shape == Shape{4});
    for (const Node* n : nodes_of(m.graph, Op::kRoute)) CHECK(n->in[7] == m.balance);
  }
}

TEST_CASE("graphs that are not for training have no input of it") {
  for (const ArchDef& arch : all_archs()) {
    CAPTURE(arch.name);
    const ModelGraph m = example_graph(arch, false);
    CHECK(m.balance == kNone);
    CHECK(m.graph.find("balance") == kNone);
    for (const Node* n : nodes_of(m.graph, Op::kRoute)) CHECK(n->in[7] == kNone);
  }
}

}  // namespace moe

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

TEST_CASE("every router of a training graph stands between drop_experts and limit_experts") {
  for (const ArchDef& arch : all_archs()) {
    CAPTURE(arch.name);
    const ModelGraph m = example_graph(arch, true);
    REQUIRE(m.graph.validate().ok());
    for (const ValueId id : {m.balance, m.drop, m.capacity}) {
      REQUIRE(id != kNone);
      CHECK(m.graph.value(id).kind == ValueKind::kInput);
      CHECK(m.graph.value(id).shape == Shape{4});
    }
    const auto drops = nodes_of(m.graph, Op::kDropExperts), routes = nodes_of(m.graph, Op::kRoute),
               limits = nodes_of(m.graph, Op::kLimitExperts);
    REQUIRE(drops.size() == routes.size());
    REQUIRE(limits.size() == routes.size());
    for (size_t i = 0; i < routes.size(); ++i) {
      const RouterValues& r = m.routers[static_cast<size_t>(routes[i]->layer)];
      CHECK(drops[i]->in[0] == r.logits);
      CHECK(drops[i]->in[1] == m.drop);
      CHECK(routes[i]->in[0] == drops[i]->out[0]);
      CHECK(routes[i]->in[7] == m.balance);
      CHECK(limits[i]->in == std::vector<ValueId>{routes[i]->out[0], drops[i]->out[0], r.allow, m.token_class, m.capacity});
      CHECK(r.ids == limits[i]->out[0]);
      CHECK(r.weights == routes[i]->out[1]);
      CHECK(m.graph.value(r.ids).output);
      CHECK(std::get<LimitAttrs>(limits[i]->attrs).layer == routes[i]->layer);
      CHECK(std::get<DropAttrs>(drops[i]->attrs).layer == routes[i]->layer);
      CHECK(std::get<DropAttrs>(drops[i]->attrs).keep == std::get<RouteAttrs>(routes[i]->attrs).k_capacity);
      for (const Node& n : m.graph.nodes)
        if (n.op != Op::kLimitExperts) CHECK(std::count(n.in.begin(), n.in.end(), routes[i]->out[0]) == 0);
    }
  }
}

TEST_CASE("graphs that are not for training have nothing of it") {
  for (const ArchDef& arch : all_archs()) {
    CAPTURE(arch.name);
    const ModelGraph m = example_graph(arch, false);
    for (const ValueId id : {m.balance, m.drop, m.capacity}) CHECK(id == kNone);
    for (const char* name : {"balance", "drop", "capacity"}) CHECK(m.graph.find(name) == kNone);
    CHECK(nodes_of(m.graph, Op::kDropExperts).empty());
    CHECK(nodes_of(m.graph, Op::kLimitExperts).empty());
    for (const Node* n : nodes_of(m.graph, Op::kRoute)) {
      CHECK(n->in[7] == kNone);
      CHECK(m.routers[static_cast<size_t>(n->layer)].ids == n->out[0]);
    }
  }
}

}  // namespace moe

#include "backends/cpu/lower.h"

#include <map>

#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

struct Product {
  Op op;
  std::vector<size_t> weights;  // positions of the inputs that the activations (input 0) are multiplied with
};

const Product* product(Op op) {
  static const Product kProducts[] = {
      {Op::kLinear, {1}}, {Op::kLinearGlu, {1, 2}}, {Op::kMoeLinear, {2}}, {Op::kMoeGateUp, {2, 3}}, {Op::kMoeDown, {3}},
  };
  for (const Product& p : kProducts)
    if (p.op == op) return &p;
  return nullptr;
}

bool takes_int8(const Graph& g, const Node& n, const Product& p, const KernelTable& k) {
  for (const size_t i : p.weights) {
    if (i >= n.in.size() || n.in[i] == kNone) continue;
    const Value& w = g.value(n.in[i]);
    if (!multiplies_int8(k, w.dtype, w.shape.last())) return false;
  }
  return true;
}

}  // namespace

Graph lower_to_int8(const Graph& from, const KernelTable& k) {
  Graph g = from;
  g.nodes.clear();
  std::map<ValueId, ValueId> rounded;
  for (Node n : from.nodes) {
    if (const Product* p = product(n.op); p && takes_int8(from, n, *p, k)) {
      auto [it, fresh] = rounded.try_emplace(n.in[0], kNone);
      if (fresh) it->second = g.add_node(Op::kQuantizeAct, {n.in[0]}, NoAttrs{}, n.layer);
      n.in[0] = it->second;
    }
    g.nodes.push_back(std::move(n));
  }
  return g;
}

}  // namespace moe::cpu

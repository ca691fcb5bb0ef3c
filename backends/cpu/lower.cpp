#include "backends/cpu/lower.h"

#include <map>
#include <optional>

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

// What all weights of a product want its activations rounded to; kF32 where they differ.
DType activation_for(const Graph& g, const Node& n, const Product& p, const KernelTable& k) {
  std::optional<DType> common;
  for (const size_t i : p.weights) {
    if (i >= n.in.size() || n.in[i] == kNone) continue;
    const Value& w = g.value(n.in[i]);
    const DType wanted = activation_for(k, w.dtype, w.shape.last());
    if (common.value_or(wanted) != wanted) return DType::kF32;
    common = wanted;
  }
  return common.value_or(DType::kF32);
}

// What attention over these caches wants its queries rounded to.
DType query_for(const Graph& g, const Node& n, const KernelTable& k) {
  for (const size_t cache : {size_t{3}, size_t{4}}) {
    if (n.in[cache] == kNone) continue;
    if (!k.attention_bf16.pack_keys[static_cast<size_t>(g.value(n.in[cache]).dtype)]) return DType::kF32;
  }
  return DType::kBF16;
}

DType rounded_to(const Graph& g, const Node& n, const KernelTable& k) {
  if (n.op == Op::kAttention) return query_for(g, n, k);
  const Product* p = product(n.op);
  return p ? activation_for(g, n, *p, k) : DType::kF32;
}

}  // namespace

Graph round_activations(const Graph& from, const KernelTable& k) {
  Graph g = from;
  g.nodes.clear();
  std::map<std::pair<ValueId, DType>, ValueId> rounded;
  for (Node n : from.nodes) {
    if (auto* a = std::get_if<CrossEntropyAttrs>(&n.attrs); a && k.dot_bf16[static_cast<size_t>(DType::kBF16)])
      a->round = DType::kBF16;
    if (const DType to = rounded_to(from, n, k); to != DType::kF32) {
      auto [it, fresh] = rounded.try_emplace({n.in[0], to}, kNone);
      if (fresh) it->second = g.add_node(Op::kQuantizeAct, {n.in[0]}, QuantizeActAttrs{to}, n.layer);
      n.in[0] = it->second;
    }
    g.nodes.push_back(std::move(n));
  }
  return g;
}

}  // namespace moe::cpu

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

// Reverse passes of products, whose weight (or, of a gradient of a weight, `round`) says whether pairs of bfloat16 are
// multiplied.
struct ReverseProduct {
  Op op;
  std::vector<size_t> rounded;  // positions of inputs
  size_t weight;                // 0: ProductGradAttrs::round
};

const ReverseProduct* reverse_product(Op op) {
  static const ReverseProduct kProducts[] = {
      {Op::kLinearDx, {0}, 1}, {Op::kLinearDw, {0, 1}, 0}, {Op::kMoeLinearDx, {0}, 2}, {Op::kMoeLinearDw, {0, 1}, 0}};
  for (const ReverseProduct& p : kProducts)
    if (p.op == op) return &p;
  return nullptr;
}

DType activation_for(const Graph& g, const Node& n, const ReverseProduct& p, const KernelTable& k) {
  const DType factor = p.weight > 0 ? g.value(n.in[p.weight]).dtype : std::get<ProductGradAttrs>(n.attrs).round;
  return factor == DType::kBF16 && k.dot_bf16[static_cast<size_t>(factor)] ? DType::kBF16 : DType::kF32;
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

// What inputs of a node are rounded to; kF32: nothing.
struct Rounding {
  DType to;
  std::vector<size_t> inputs;
};

Rounding rounding(const Graph& g, const Node& n, const KernelTable& k) {
  if (n.op == Op::kAttention) return {query_for(g, n, k), {0}};
  if (const Product* p = product(n.op)) return {activation_for(g, n, *p, k), {0}};
  if (const ReverseProduct* p = reverse_product(n.op)) return {activation_for(g, n, *p, k), p->rounded};
  return {DType::kF32, {}};
}

}  // namespace

Graph round_activations(const Graph& from, const KernelTable& k) {
  Graph g = from;
  g.nodes.clear();
  std::map<std::pair<ValueId, DType>, ValueId> rounded;
  for (Node n : from.nodes) {
    if (auto* a = std::get_if<CrossEntropyAttrs>(&n.attrs); a && k.dot_bf16[static_cast<size_t>(DType::kBF16)])
      a->round = DType::kBF16;
    const Rounding r = rounding(from, n, k);
    for (const size_t i : r.inputs) {
      if (r.to == DType::kF32) break;
      auto [it, fresh] = rounded.try_emplace({n.in[i], r.to}, kNone);
      if (fresh) it->second = g.add_node(Op::kQuantizeAct, {n.in[i]}, QuantizeActAttrs{r.to}, n.layer);
      n.in[i] = it->second;
    }
    g.nodes.push_back(std::move(n));
  }
  return g;
}

}  // namespace moe::cpu

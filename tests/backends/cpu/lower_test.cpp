// Which products get rounded activations, and that a value is rounded once to each type.
#include "backends/cpu/lower.h"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

namespace moe::cpu {
namespace {

void no_product(const DotArgs&) {}

// Kernels of a processor that multiplies int8 and, if asked, bfloat16. Nothing is run.
KernelTable kernels(bool bf16) {
  KernelTable k{};
  for (const DTypeTraits& t : all_dtypes())
    if (t.is_weight && t.block_elements > 1) k.dot_a8[static_cast<size_t>(t.dtype)] = no_product;
  if (bf16) k.dot_bf16[static_cast<size_t>(DType::kBF16)] = no_product;
  return k;
}

struct Products {
  Graph g;
  ValueId x;
  explicit Products(int64_t n_in) { x = add("x", ValueKind::kInput, DType::kF32, {kTokens, n_in}); }

  ValueId add(const std::string& name, ValueKind kind, DType dtype, Shape shape) {
    Value v;
    v.name = name, v.kind = kind, v.dtype = dtype, v.shape = shape;
    return g.add_value(v);
  }
  ValueId weight(const std::string& name, DType dtype) {
    return add(name, ValueKind::kWeight, dtype, {64, g.value(x).shape.last()});
  }
  void linear(const std::string& name, DType dtype) { g.add_node(Op::kLinear, {x, weight(name, dtype)}, ScaleAttrs{}); }
  void glu(DType gate, DType up) { g.add_node(Op::kLinearGlu, {x, weight("gate", gate), weight("up", up)}, GluAttrs{}); }

  // "weight: dtype its product reads" for each product, and how often x was rounded to each type.
  std::map<std::string, std::string> read_by(const KernelTable& k) {
    const Graph lowered = round_activations(g, k);
    CHECK(lowered.validate().ok());
    std::map<std::string, std::string> types;
    std::map<DType, int> rounded;
    for (const Node& n : lowered.nodes) {
      if (n.op == Op::kQuantizeAct)
        ++rounded[lowered.value(n.out[0]).dtype];
      else
        types[lowered.value(n.in[1]).name] = traits(lowered.value(n.in[0]).dtype).name;
    }
    for (const auto& [type, times] : rounded) CHECK(times == 1);
    return types;
  }
};

using Types = std::map<std::string, std::string>;

}  // namespace

TEST_CASE("activations are rounded to what each product's kernels multiply, once a type") {
  Products p(64);
  for (const std::string name : {"a", "b"}) {
    p.linear("f32" + name, DType::kF32);
    p.linear("f16" + name, DType::kF16);
    p.linear("bf16" + name, DType::kBF16);
    p.linear("q8_0" + name, DType::kQ8_0);
  }
  CHECK(p.read_by(kernels(true)) == Types{{"f32a", "f32"},
                                          {"f32b", "f32"},
                                          {"f16a", "f32"},
                                          {"f16b", "f32"},
                                          {"bf16a", "bf16"},
                                          {"bf16b", "bf16"},
                                          {"q8_0a", "a8"},
                                          {"q8_0b", "a8"}});
  const Types without = p.read_by(kernels(false));
  CHECK(without.at("bf16a") == "f32");
  CHECK(without.at("q8_0a") == "a8");
}

TEST_CASE("rows of any length are rounded to bfloat16") {
  Products p(33);
  p.linear("w", DType::kBF16);
  CHECK(p.read_by(kernels(true)) == Types{{"w", "bf16"}});
}

TEST_CASE("a product of weights that want different activations keeps float32") {
  for (const DType gate : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0})
    for (const DType up : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
      Products p(64);
      p.glu(gate, up);
      const std::string same = gate == DType::kBF16 ? "bf16" : gate == DType::kQ8_0 ? "a8" : "f32";
      CHECK(p.read_by(kernels(true)) == Types{{"gate", gate == up ? same : "f32"}});
    }
}

TEST_CASE("what reverse passes multiply is rounded where the weight is bfloat16 and such pairs are multiplied, once a value") {
  const auto reverse_of = [](DType dtype, const KernelTable& k) {
    Products p(33);
    const ValueId w = p.weight("w", dtype), dy = p.add("dy", ValueKind::kInput, DType::kF32, {kTokens, 64});
    const ValueId grad = p.add("grad", ValueKind::kState, DType::kF32, {64, 33});
    p.g.add_node(Op::kLinear, {p.x, w}, ScaleAttrs{});
    p.g.add_node(Op::kLinearDx, {dy, w}, ScaleAttrs{});
    p.g.add_node(Op::kLinearDw, {dy, p.x, grad}, ProductGradAttrs{1, dtype == DType::kBF16 ? DType::kBF16 : DType::kF32});
    const Graph lowered = round_activations(p.g, k);
    CHECK(lowered.validate().ok());
    std::string text;
    for (const Node& n : lowered.nodes) {
      text += (text.empty() ? "" : ", ") + std::string(op_name(n.op));
      if (n.op != Op::kQuantizeAct) text += std::string(" ") + traits(lowered.value(n.in[0]).dtype).name;
      if (n.op == Op::kLinearDw) text += std::string(" ") + traits(lowered.value(n.in[1]).dtype).name;
    }
    return text;
  };
  CHECK(reverse_of(DType::kBF16, kernels(true)) ==
        "quantize_act, linear bf16, quantize_act, linear_dx bf16, linear_dw bf16 bf16");
  CHECK(reverse_of(DType::kBF16, kernels(false)) == "linear f32, linear_dx f32, linear_dw f32 f32");
  CHECK(reverse_of(DType::kF32, kernels(true)) == "linear f32, linear_dx f32, linear_dw f32 f32");
}

TEST_CASE("reverse passes of frozen quantised weights keep float32") {
  Products p(64);
  const ValueId dy = p.add("dy", ValueKind::kInput, DType::kF32, {kTokens, 64});
  p.g.add_node(Op::kLinearDx, {dy, p.weight("w", DType::kQ8_0)}, ScaleAttrs{});
  CHECK(p.read_by(kernels(true)) == Types{{"w", "f32"}});
}

void no_packing(const PackArgs&) {}

// The type of the queries of an attention over these caches.
DType queries_over(DType keys, DType values, const KernelTable& k) {
  Graph g;
  const auto add = [&](ValueKind kind, DType dtype, Shape shape) {
    Value v;
    v.name = "v" + std::to_string(g.values.size()), v.kind = kind, v.dtype = dtype, v.shape = shape;
    return g.add_value(v);
  };
  const ValueId q = add(ValueKind::kInput, DType::kF32, {kTokens, 64}),
                row = add(ValueKind::kInput, DType::kF32, {kTokens, 32});
  const ValueId cache_k = add(ValueKind::kState, keys, {1, 1, 8, 32}), cache_v = add(ValueKind::kState, values, {1, 1, 8, 32});
  const ValueId at = add(ValueKind::kInput, DType::kI32, {kTokens});
  AttentionAttrs a;
  a.n_head = 2, a.n_kv_head = 1, a.head_dim = a.v_dim = 32;
  g.add_node(Op::kAttention, {q, row, row, cache_k, cache_v, at, at}, a);
  g.value(g.nodes.back().out[0]).output = true;
  const Graph lowered = round_activations(g, k);
  CHECK(lowered.validate().ok());
  return lowered.value(lowered.nodes.back().in[0]).dtype;
}

TEST_CASE("queries are rounded where all their caches have kernels for pairs of bfloat16") {
  KernelTable k = kernels(true);
  CHECK(queries_over(DType::kF16, DType::kF16, k) == DType::kF32);
  for (const DType t : {DType::kF16, DType::kQ8_0}) k.attention_bf16.pack_keys[static_cast<size_t>(t)] = no_packing;
  CHECK(queries_over(DType::kF16, DType::kF16, k) == DType::kBF16);
  CHECK(queries_over(DType::kQ8_0, DType::kF16, k) == DType::kBF16);
  CHECK(queries_over(DType::kF32, DType::kF32, k) == DType::kF32);
  CHECK(queries_over(DType::kF16, DType::kF32, k) == DType::kF32);
}

TEST_CASE("reverse products of bfloat16 experts read gradients and activations of bfloat16") {
  Products p(32);
  const ValueId dy = p.add("dy", ValueKind::kInput, DType::kF32, {kTokens, 2, 64});
  const ValueId ids = p.add("ids", ValueKind::kInput, DType::kI32, {kTokens, 2});
  const ValueId grad = p.add("grad", ValueKind::kState, DType::kF32, {4, 64, 32});
  for (const DType format : {DType::kF32, DType::kBF16, DType::kQ8_0}) {
    const ValueId w = p.add("w", ValueKind::kWeight, format, {4, 64, 32});
    p.g.add_node(Op::kMoeLinearDx, {dy, ids, w}, MoeGradAttrs{});
  }
  p.g.add_node(Op::kMoeLinearDw, {dy, p.x, ids, kNone, kNone, grad}, ProductGradAttrs{});
  p.g.add_node(Op::kMoeLinearDw, {dy, p.x, ids, kNone, kNone, grad}, ProductGradAttrs{1, DType::kBF16});
  const auto read = [&](bool bf16) {
    const Graph lowered = round_activations(p.g, kernels(bf16));
    CHECK(lowered.validate().ok());
    std::vector<std::string> types;
    for (const Node& n : lowered.nodes)
      if (n.op == Op::kMoeLinearDx)
        types.push_back(traits(lowered.value(n.in[0]).dtype).name);
      else if (n.op == Op::kMoeLinearDw)
        types.push_back(traits(lowered.value(n.in[0]).dtype).name + std::string(" ") +
                        traits(lowered.value(n.in[1]).dtype).name);
    return types;
  };
  CHECK(read(true) == std::vector<std::string>{"f32", "bf16", "f32", "f32 f32", "bf16 bf16"});
  CHECK(read(false) == std::vector<std::string>{"f32", "f32", "f32", "f32 f32", "f32 f32"});
}

}  // namespace moe::cpu

// Short words for building graphs in tests.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tensor/graph.h"

namespace moe {

struct GraphFixture {
  Graph g;

  ValueId value(ValueKind kind, const std::string& name, Shape shape, DType dtype) {
    Value v;
    v.name = name, v.kind = kind, v.dtype = dtype, v.shape = shape;
    return g.add_value(std::move(v));
  }
  ValueId weight(const std::string& name, Shape shape, DType dtype = DType::kF32) {
    return value(ValueKind::kWeight, name, shape, dtype);
  }
  ValueId input(const std::string& name, Shape shape, DType dtype = DType::kF32) {
    return value(ValueKind::kInput, name, shape, dtype);
  }
  ValueId state(const std::string& name, Shape shape, DType dtype = DType::kF16) {
    return value(ValueKind::kState, name, shape, dtype);
  }
  ValueId op(Op op, std::vector<ValueId> in, Attrs attrs = NoAttrs{}, int layer = -1) {
    return g.add_node(op, std::move(in), attrs, layer);
  }
  void output(ValueId id, const std::string& name = "") { g.value(id).output = true, g.value(id).name = name; }

  // The inputs of `route` after the logits, for E experts and one class of token: params, allow, token_class, bias, redirect.
  std::vector<ValueId> routing_tables(int64_t n_experts) {
    return {input("params", {8}), input("allow", {1, n_experts}, DType::kI8), input("token_class", {kTokens}, DType::kI32),
            input("bias", {n_experts}), input("redirect", {n_experts}, DType::kI32)};
  }
};

}  // namespace moe

#include "tensor/autodiff.h"

#include <doctest/doctest.h>

#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

const auto kAll = [](const Value&) { return true; };

// scale(embed(table, ids)) + embed(table, ids), of tokens
struct Sum : GraphFixture {
  ValueId table = weight("table", {5, 4}), ids = input("ids", {kTokens}, DType::kI32);
  ValueId a = op(Op::kEmbed, {table, ids}), b = op(Op::kScale, {a}, ScaleAttrs{3}), y = op(Op::kAdd, {a, b});
  ValueId dy = input("dy", {kTokens, 4});
};

}  // namespace

TEST_CASE("a seed of another shape than its value is refused") {
  Sum s;
  const GradientSeed seeds[] = {{s.y, s.input("other", {kTokens, 3})}};
  const auto result = differentiate(s.g, seeds, kAll);
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().message().find("wanted f32(T, 4), found f32(T, 3)") != std::string::npos);
}

TEST_CASE("nothing is appended for weights that are not trained") {
  Sum s;
  const size_t n_nodes = s.g.nodes.size();
  const GradientSeed seeds[] = {{s.y, s.dy}};
  const auto result = differentiate(s.g, seeds, [](const Value&) { return false; });
  REQUIRE(result.ok());
  CHECK(result->empty());
  CHECK(s.g.nodes.size() == n_nodes);
}

TEST_CASE("an op without gradient is named with the value that it makes") {
  GraphFixture f;
  const ValueId table = f.weight("table", {5, 4}), ids = f.input("ids", {kTokens}, DType::kI32);
  const ValueId x = f.op(Op::kEmbed, {table, ids});
  const ValueId y = f.op(Op::kQuantizeAct, {x}, QuantizeActAttrs{DType::kBF16});
  f.g.value(y).dtype = DType::kF32;  // as if it were exact
  f.g.value(y).name = "rounded";
  const GradientSeed seeds[] = {{y, f.input("dy", {kTokens, 4})}};
  const auto result = differentiate(f.g, seeds, kAll);
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().message().find("quantize_act that makes 'rounded': there is none") != std::string::npos);
}

TEST_CASE("trained weights are float32 or bfloat16") {
  GraphFixture f;
  const ValueId table = f.weight("table", {5, 32}, DType::kQ8_0), ids = f.input("ids", {kTokens}, DType::kI32);
  const ValueId y = f.op(Op::kEmbed, {table, ids});
  const GradientSeed seeds[] = {{y, f.input("dy", {kTokens, 32})}};
  const auto result = differentiate(f.g, seeds, kAll);
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().message().find("'table': wanted f32 or bf16, found q8_0") != std::string::npos);
}

}  // namespace moe

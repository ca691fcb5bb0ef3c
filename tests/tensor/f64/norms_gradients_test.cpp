// The gradient matrix: norms, softmax and rope.
#include <doctest/doctest.h>

#include "tensor/autodiff.h"
#include "tests/tensor/f64/token_rows.h"

namespace moe {
namespace {

using namespace test;

}  // namespace

TEST_SUITE_BEGIN("gradients");

TEST_CASE_FIXTURE(TokenRows, "rms_norm: rows, heads that share a weight, and no weight") {
  SUBCASE("rows") { check(op(Op::kRmsNorm, {rows(6), weight("w", {6})}, NormAttrs{1e-3f, 6})); }
  SUBCASE("heads") { check(op(Op::kRmsNorm, {rows(12), weight("w", {4})}, NormAttrs{1e-5f, 4})); }
  SUBCASE("no weight") { check(op(Op::kRmsNorm, {rows(6)}, NormAttrs{1e-5f, 6})); }
}

TEST_CASE_FIXTURE(TokenRows, "layer_norm: with a bias and without, rows and heads") {
  SUBCASE("rows") { check(op(Op::kLayerNorm, {rows(6), weight("w", {6}), weight("b", {6})}, NormAttrs{1e-3f, 6})); }
  SUBCASE("heads") { check(op(Op::kLayerNorm, {rows(12), weight("w", {4}), weight("b", {4})}, NormAttrs{1e-5f, 4})); }
  SUBCASE("no bias") { check(op(Op::kLayerNorm, {rows(6), weight("w", {6})}, NormAttrs{1e-5f, 6})); }
}

TEST_CASE_FIXTURE(TokenRows, "a norm whose rows nobody trains still gives its weight a gradient") {
  const ValueId x = input("x", {kTokens, 3});
  values[x] = {1, -2, 3, 0.5, 0, 1, 2, 2, 2, -1, 0, 4, 3, 1, 1};
  check(op(Op::kRmsNorm, {x, weight("w", {3})}, NormAttrs{1e-5f, 3}));
}

TEST_CASE_FIXTURE(TokenRows, "softmax") { check(op(Op::kSoftmax, {rows(6)})); }

TEST_CASE_FIXTURE(TokenRows, "rope: both styles, heads turned in part, angles with YaRN and a factor") {
  RopeTableAttrs angles{.dims = 8, .base = 100, .freq_scale = 0.5f, .ext_factor = 1, .attn_factor = 1.25f, .original_ctx = 64};
  const ValueId positions = input("positions", {kTokens}, DType::kI32), table = op(Op::kRopeTable, {positions}, angles);
  values[positions] = {0, 1, 2, 0, 7};
  RopeAttrs a{.head_dim = 11, .offset = 2, .dims = 8};
  SUBCASE("interleaved") { a.style = RopeStyle::kInterleaved; }
  SUBCASE("halves") { a.style = RopeStyle::kHalfSplit; }
  check(op(Op::kRope, {rows(22), table}, a));
}

TEST_CASE_FIXTURE(TokenRows, "angles that are trained have no gradient, and an error says so") {
  const ValueId positions = input("positions", {kTokens}, DType::kI32);
  const ValueId table = op(Op::kRopeTable, {positions, weight("factors", {2})}, RopeTableAttrs{.dims = 4});
  const ValueId y = op(Op::kRope, {rows(4), table}, RopeAttrs{.head_dim = 4, .dims = 4});
  const GradientSeed seeds[] = {{y, input("dy", {kTokens, 4})}};
  const auto result = differentiate(g, seeds, [](const Value&) { return true; });
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().message().find("of the angles") != std::string::npos);
}

TEST_SUITE_END();

}  // namespace moe

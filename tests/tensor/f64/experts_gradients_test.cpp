// The gradient matrix of activations, gated units and routed experts.
#include <doctest/doctest.h>

#include "tests/tensor/f64/gradient_check.h"
#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

using namespace test;

constexpr int64_t kRows = 5, kSlots = 3;

struct RoutedRows : GraphFixture {
  Values64 values;

  ValueId rows(int64_t n, const std::string& name = "x") {
    const ValueId table = weight(name, {kRows, n}), ids = input(name + ".ids", {kTokens}, DType::kI32);
    values[ids] = {0, 1, 2, 3, 4};
    return op(Op::kEmbed, {table, ids});
  }
  // Two slots without an expert, one of them before others; expert 3 of 6 is used by nobody.
  ValueId experts() {
    const ValueId ids = input("experts", {kTokens, kSlots}, DType::kI32);
    values[ids] = {5, 0, 2, 1, -1, 0, 4, 2, 1, 0, 5, -1, 2, 1, 4};
    return ids;
  }
  void check(ValueId y) {
    RunShape run;
    run.n_tokens = kRows;
    check_gradients({g, y, run, values});
  }
};

}  // namespace

TEST_SUITE_BEGIN("gradients");

TEST_CASE_FIXTURE(RoutedRows, "silu, gelu and sigmoid") {
  Op activation{};
  SUBCASE("silu") { activation = Op::kSilu; }
  SUBCASE("gelu") { activation = Op::kGelu; }
  SUBCASE("sigmoid") { activation = Op::kSigmoid; }
  const ValueId x = rows(11);
  check(op(activation, {op(Op::kScale, {x}, ScaleAttrs{3})}));
}

TEST_CASE_FIXTURE(RoutedRows, "glu of every unit, the clamped one cut on all three sides") {
  GluAttrs a;
  SUBCASE("swiglu") {}
  SUBCASE("geglu") { a.unit = GateUnit::kGeGlu; }
  SUBCASE("clamped") { a.alpha = 1.702f, a.limit = 0.75f; }
  check(op(Op::kGlu, {rows(11, "gate"), rows(11, "up")}, a));
}

TEST_CASE_FIXTURE(RoutedRows, "glu of a gate alone that is trained") {
  const ValueId up = input("up", {kTokens, 2});
  values[up] = {1, -2, 0.5, 3, -1, 1, 2, 2, -0.5, 1};
  check(op(Op::kGlu, {rows(2, "gate"), up}, GluAttrs{}));
}

TEST_CASE_FIXTURE(RoutedRows, "moe_linear of tokens: a token's slots add up, experts without tokens get nothing") {
  const ValueId ids = experts(), w = weight("w", {6, 5, 4}), bias = weight("bias", {6, 5});
  check(op(Op::kMoeLinear, {rows(4), ids, w, bias}));
}

TEST_CASE_FIXTURE(RoutedRows, "moe_linear of slots, within widths that differ by expert, 0 among them") {
  const ValueId ids = experts(), rows_used = input("rows_used", {6}, DType::kI32),
                cols_used = input("cols_used", {6}, DType::kI32);
  values[rows_used] = {5, 2, 0, 5, 1, 4}, values[cols_used] = {1, 4, 3, 4, 0, 2};
  const ValueId first = weight("first", {6, 4, 3}), second = weight("second", {6, 5, 4}), bias = weight("bias", {6, 5});
  const ValueId slots = op(Op::kMoeLinear, {rows(3), ids, first});
  check(op(Op::kMoeLinear, {slots, ids, second, bias, rows_used, cols_used}));
}

TEST_CASE_FIXTURE(RoutedRows, "moe_linear whose weights are frozen") {
  const ValueId ids = experts(), w = weight("w", {6, 3, 4}, DType::kBF16);
  for (int i = 0; i < 6 * 3 * 4; ++i) values[w].push_back(i % 7 - 3);
  SUBCASE("a trained bias") { check(op(Op::kMoeLinear, {rows(4), ids, w, weight("bias", {6, 3})})); }
  SUBCASE("nothing but its input is trained") { check(op(Op::kMoeLinear, {rows(4), ids, w})); }
}

TEST_CASE_FIXTURE(RoutedRows, "weighted_sum: of the slots and of their weights") {
  const ValueId ids = experts(), w = weight("w", {6, 3, 4});
  check(op(Op::kWeightedSum, {op(Op::kMoeLinear, {rows(4), ids, w}), ids, rows(kSlots, "weights")}));
}

TEST_SUITE_END();

}  // namespace moe

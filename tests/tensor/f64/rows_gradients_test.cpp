// The reverse passes of the movers of data and of mul against differences in double precision.
#include <doctest/doctest.h>

#include "tensor/autodiff.h"
#include "tests/tensor/f64/gradient_check.h"
#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

using namespace test;

struct MovedRows : GraphFixture {
  Values64 values;

  ValueId rows(int64_t n, const std::string& name) {
    const ValueId table = weight(name, {7, n}), ids = input(name + ".ids", {kTokens}, DType::kI32);
    values[ids] = {6, 1, 0, 1, 3};
    return op(Op::kEmbed, {table, ids});
  }
  void check(ValueId y) { check_gradients({g, y, RunShape{.n_tokens = 5, .n_outputs = 4}, values}); }
};

}  // namespace

TEST_SUITE_BEGIN("gradients");

TEST_CASE_FIXTURE(MovedRows, "slice: columns that are left out get nothing") {
  check(op(Op::kSlice, {rows(12, "x")}, GroupAttrs{.groups = 3, .begin = 1, .end = 3}));
}

TEST_CASE_FIXTURE(MovedRows, "slice: of two slices of one value both count") {
  const ValueId x = rows(12, "x");
  const ValueId a = op(Op::kSlice, {x}, GroupAttrs{.begin = 0, .end = 8}),
                b = op(Op::kSlice, {x}, GroupAttrs{.begin = 4, .end = 12});
  check(op(Op::kMul, {a, b}));
}

TEST_CASE_FIXTURE(MovedRows, "concat: of parts of their own and of one part that all groups share") {
  const ValueId a = rows(6, "a"), b = rows(9, "b"), shared = rows(2, "shared");
  const ValueId ab = op(Op::kConcat, {a, b}, GroupAttrs{.groups = 3});
  check(op(Op::kConcat, {ab, shared}, GroupAttrs{.groups = 3, .shared = true}));
}

TEST_CASE_FIXTURE(MovedRows, "select_rows: a token that two outputs read gets both gradients") {
  const ValueId chosen = input("chosen", {kOutputs}, DType::kI32);
  values[chosen] = {4, 0, 4, 2};
  check(op(Op::kSelectRows, {rows(6, "x"), chosen}));
}

TEST_CASE_FIXTURE(MovedRows, "mul: of equal shapes, of a square, and by one number a row") {
  const ValueId x = rows(6, "x"), y = rows(6, "y"), factor = rows(1, "factor");
  check(op(Op::kMul, {op(Op::kMul, {op(Op::kMul, {x, y}), factor}), x}));
}

TEST_CASE_FIXTURE(MovedRows, "mul: rows that are one number wide are products of equal shapes") {
  check(op(Op::kMul, {rows(1, "x"), rows(1, "y")}));
}

TEST_CASE_FIXTURE(MovedRows, "mul: by one row for all, which is not trained") {
  const ValueId row = input("row", {6});
  values[row] = {1, -2, 0.5, 3, -1, 2};
  check(op(Op::kMul, {rows(6, "x"), row}));
}

TEST_CASE_FIXTURE(MovedRows, "mul: a trained row for all has no gradient, and the error says so") {
  const ValueId y = op(Op::kMul, {rows(6, "x"), weight("row", {6})});
  const GradientSeed seeds[] = {{y, input("dy", {kTokens, 6})}};
  const auto result = differentiate(g, seeds, [](const Value&) { return true; });
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().code() == StatusCode::kUnsupported);
  CHECK(result.status().message().find("of a row that multiplies all others") != std::string::npos);
}

TEST_SUITE_END();

}  // namespace moe

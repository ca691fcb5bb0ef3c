// The gradient matrix: every op's reverse pass against differences in double precision, one case an op.
#include <doctest/doctest.h>

#include <numeric>

#include "tests/tensor/f64/gradient_check.h"
#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

using namespace test;

// x of 5 tokens, of which two are the same row of the table.
struct TokenRows : GraphFixture {
  static constexpr int64_t kRows = 5;
  Values64 values;

  ValueId rows(int64_t n, const std::string& name = "x") {
    const ValueId table = weight(name, {7, n}), ids = input(name + ".ids", {kTokens}, DType::kI32);
    values[ids] = {6, 1, 0, 1, 3};
    return op(Op::kEmbed, {table, ids});
  }
  void check(ValueId y) {
    RunShape run;
    run.n_tokens = kRows, run.n_outputs = 3;
    check_gradients({g, y, run, values});
  }
};

}  // namespace

TEST_SUITE_BEGIN("gradients");

TEST_CASE_FIXTURE(TokenRows, "embed: a row that two tokens look up gets both gradients") { check(rows(6)); }

TEST_CASE_FIXTURE(TokenRows, "add and scale, also of a value that has two readers") {
  const ValueId x = rows(6), y = rows(6, "other");
  const ValueId scaled = op(Op::kScale, {op(Op::kAdd, {x, y})}, ScaleAttrs{-0.75f});
  check(op(Op::kAdd, {scaled, x}));
}

TEST_SUITE_END();

}  // namespace moe

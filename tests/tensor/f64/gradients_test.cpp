// The gradient matrix: every op's reverse pass against differences in double precision, one case an op.
#include <doctest/doctest.h>

#include "tests/tensor/f64/token_rows.h"

namespace moe {
namespace {

using namespace test;

}  // namespace

TEST_SUITE_BEGIN("gradients");

TEST_CASE_FIXTURE(TokenRows, "embed: a row that two tokens look up gets both gradients") { check(rows(6)); }

TEST_CASE_FIXTURE(TokenRows, "add and scale, also of a value that has two readers") {
  const ValueId x = rows(6), y = rows(6, "other");
  const ValueId scaled = op(Op::kScale, {op(Op::kAdd, {x, y})}, ScaleAttrs{-0.75f});
  check(op(Op::kAdd, {scaled, x}));
}

TEST_CASE_FIXTURE(TokenRows, "linear: input, weight, bias and residual, scaled") {
  const ValueId x = rows(6), w = weight("w", {5, 6}), bias = weight("bias", {5});
  const ValueId y = op(Op::kLinear, {x, w, bias, rows(5, "residual")}, ScaleAttrs{-0.75f});
  check(op(Op::kLinear, {y, weight("next", {4, 5})}, ScaleAttrs{}));
}

TEST_CASE_FIXTURE(TokenRows, "linear: a bias is trained where its weight is not") {
  const ValueId w = weight("w", {5, 6}, DType::kF16);
  values[w] = Doubles(30, 0.5);
  check(op(Op::kLinear, {rows(6), w, weight("bias", {5})}, ScaleAttrs{2}));
}

TEST_SUITE_END();

}  // namespace moe

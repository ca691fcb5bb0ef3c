// Activations for gradient checks: rows of a trained table, so that their gradients are the table's.
#pragma once

#include "tests/tensor/f64/gradient_check.h"
#include "tests/tensor/graph_fixture.h"

namespace moe::test {

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

}  // namespace moe::test

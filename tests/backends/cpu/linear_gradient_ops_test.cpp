// linear_dx, linear_dw, and linear where throughput is asked for, on every instruction set, with few and many tokens and 1 to 3
// threads, against the references in double precision.
#include <doctest/doctest.h>

#include <cmath>

#include "tests/backends/cpu/op_fixture.h"
#include "tests/backends/cpu/op_reference.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

struct Sizes {
  int64_t n_out, n_in;
};

std::vector<float> matrix(int64_t rows, int64_t columns, uint64_t seed) {
  return normals(static_cast<size_t>(rows * columns), seed);
}

OpArgument tokens(const OpRun& run, int64_t n, uint64_t seed) { return floats({kTokens, n}, matrix(run.n_tokens, n, seed)); }

void check_dx(const OpRun& run, Sizes s, DType dtype, float scale, double limit) {
  const OpArgument w = weights({s.n_out, s.n_in}, matrix(s.n_out, s.n_in, 2), dtype);
  check_against_f64(Op::kLinearDx, {tokens(run, s.n_out, 1), w}, ScaleAttrs{scale}, run, limit);
}

void check_dw(const OpRun& run, Sizes s, const ProductGradAttrs& attrs, bool grad, bool grad_bias, double limit) {
  check_against_f64(Op::kLinearDw,
                    {tokens(run, s.n_out, 1), tokens(run, s.n_in, 2),
                     grad ? gradient({s.n_out, s.n_in}, matrix(s.n_out, s.n_in, 3)) : absent(),
                     grad_bias ? gradient({s.n_out}, matrix(1, s.n_out, 4)) : absent()},
                    attrs, run, limit);
}

constexpr double kLimit = 3e-6;  // of float32 sums of up to 300 terms

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("linear_dx multiplies by the weight as it is stored, in odd and in large sizes") {
  for_each_run([](const OpRun& run) {
    for (const Sizes s : {Sizes{1, 1}, Sizes{37, 29}, Sizes{5, 600}, Sizes{300, 64}})
      for (const float scale : {1.0f, -0.5f}) check_dx(run, s, DType::kF32, scale, kLimit);
  });
}

TEST_CASE("linear_dx decodes frozen weights of every format") {
  for_each_run([](const OpRun& run) {
    for (const DTypeTraits& f : all_dtypes()) {
      if (!f.is_weight) continue;
      CAPTURE(f.name);
      check_dx(run, {35, 256}, f.dtype, 1, kLimit);
    }
  });
}

TEST_CASE("linear_dx splits decoded weights by columns, and by tokens where columns are few") {
  for_each_run([](const OpRun& run) {
    check_dx(run, {150, 768}, DType::kQ4_K, 2, kLimit);
    check_dx(run, {130, 33}, DType::kBF16, 1, kLimit);
    check_dx(run, {3, 256}, DType::kQ8_0, 0.5f, kLimit);
  });
}

TEST_CASE("linear_dw adds products of all tokens to what is there, and their sum to the bias's gradient") {
  for_each_run([](const OpRun& run) {
    for (const Sizes s : {Sizes{1, 1}, Sizes{37, 29}, Sizes{5, 600}, Sizes{300, 64}})
      for (const float scale : {1.0f, -0.5f}) check_dw(run, s, {scale, DType::kF32}, true, true, kLimit);
  });
}

TEST_CASE("linear_dw makes the gradient of a weight alone, or of a bias alone") {
  for_each_run([](const OpRun& run) {
    check_dw(run, {37, 29}, {}, true, false, kLimit);
    check_dw(run, {37, 29}, {}, false, true, kLimit);
    check_dw(run, {521, 3}, {2, DType::kF32}, false, true, kLimit);
  });
}

// Numbers that bfloat16 holds: rounding changes nothing, so that what is left are float32 sums.
OpArgument bf16_tokens(const OpRun& run, int64_t n, uint64_t seed) {
  return floats({kTokens, n}, weights({run.n_tokens, n}, matrix(run.n_tokens, n, seed), DType::kBF16).floats());
}

TEST_CASE("products of bfloat16 weights and of their gradients add in float32 what was rounded") {
  for_each_run([](OpRun run) {
    run.exact = false, run.throughput = true;
    for (const Sizes s : {Sizes{37, 29}, Sizes{150, 64}}) {
      const OpArgument w = weights({s.n_out, s.n_in}, matrix(s.n_out, s.n_in, 2), DType::kBF16);
      const OpArgument dy = bf16_tokens(run, s.n_out, 1), x = bf16_tokens(run, s.n_in, 5);
      check_against_f64(Op::kLinear, {x, w}, ScaleAttrs{}, run, kLimit);
      check_against_f64(Op::kLinearDx, {dy, w}, ScaleAttrs{0.5f}, run, kLimit);
      check_against_f64(
          Op::kLinearDw,
          {dy, x, gradient({s.n_out, s.n_in}, matrix(s.n_out, s.n_in, 3)), gradient({s.n_out}, matrix(1, s.n_out, 4))},
          ProductGradAttrs{0.5f, DType::kBF16}, run, kLimit);
      check_against_f64(Op::kLinearDw,
                        {tokens(run, s.n_out, 1), tokens(run, s.n_in, 2), absent(), gradient({s.n_out}, matrix(1, s.n_out, 4))},
                        ProductGradAttrs{1, DType::kBF16}, run, 1e-2);
    }
  });
}

TEST_CASE("linear for throughput adds bias, scale and residual to products with weights of every format") {
  for_each_run([](OpRun run) {
    run.throughput = true;
    const int64_t n_in = 256, n_out = 35;
    const OpArgument x = tokens(run, n_in, 1), residual = tokens(run, n_out, 4);
    const OpArgument bias = weights({n_out}, matrix(1, n_out, 3));
    for (const DTypeTraits& f : all_dtypes()) {
      if (!f.is_weight) continue;
      CAPTURE(f.name);
      const OpArgument w = weights({n_out, n_in}, matrix(n_out, n_in, 2), f.dtype);
      check_against_f64(Op::kLinear, {x, w, absent(), absent()}, ScaleAttrs{}, run, kLimit);
      check_against_f64(Op::kLinear, {x, w, bias, residual}, ScaleAttrs{0.5f}, run, kLimit);
    }
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const OpArgument w = weights({140, 769}, matrix(140, 769, 2), dtype), b = weights({140}, matrix(1, 140, 3));
      check_against_f64(Op::kLinear, {tokens(run, 769, 1), w, b, tokens(run, 140, 4)}, ScaleAttrs{2}, run, 5e-6);
    }
  });
}

TEST_CASE("linear for throughput adds products in the order of a matrix product, not of a row by itself") {
  const int64_t n_in = 100, n_out = 33;
  const std::vector<float> x = matrix(6, n_in, 1), w = matrix(n_out, n_in, 2);
  for (const std::string& isa : runnable_isas()) {
    if (isa == "scalar") continue;  // adds row by row in the same order
    CAPTURE(isa);
    std::vector<float> chains;
    for (int64_t t = 0; t < 6; ++t)
      for (int64_t o = 0; o < n_out; ++o) {
        float sum = 0;
        for (int64_t i = 0; i < n_in; ++i)
          sum = std::fma(x[static_cast<size_t>(t * n_in + i)], w[static_cast<size_t>(o * n_in + i)], sum);
        chains.push_back(sum);
      }
    OpRun run{isa, 2, true, false, 6, 1};
    std::vector<OpArgument> arguments = {floats({kTokens, n_in}, x), weights({n_out, n_in}, w)};
    CHECK_FALSE(run_op(Op::kLinear, arguments, ScaleAttrs{}, run).at(0) == chains);
    run.throughput = true;
    CHECK(run_op(Op::kLinear, arguments, ScaleAttrs{}, run).at(0) == chains);
  }
}

TEST_CASE("linear_dx makes no row and linear_dw changes nothing where a run has no outputs") {
  const std::vector<float> before = matrix(6, 5, 3);
  for (const int threads : {1, 2}) {
    const OpRun run{"", threads, true, false, 3, 0};
    OpArgument dy = floats({kOutputs, 6}, {1}), x = floats({kOutputs, 5}, {1});  // a byte to point at
    std::vector<OpArgument> of_dx = {dy, weights({6, 5}, before)};
    CHECK(run_op(Op::kLinearDx, of_dx, ScaleAttrs{2}, run).at(0).empty());
    std::vector<OpArgument> of_dw = {dy, x, gradient({6, 5}, before), gradient({6}, matrix(1, 6, 4))};
    run_op(Op::kLinearDw, of_dw, ProductGradAttrs{}, run);
    CHECK(of_dw[2].floats() == before);
    CHECK(of_dw[3].floats() == matrix(1, 6, 4));
  }
}

TEST_SUITE_END();

}  // namespace moe

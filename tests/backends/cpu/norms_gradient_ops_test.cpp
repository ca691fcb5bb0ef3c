// Reverse passes of norms, softmax and rope on the CPU backend, on every instruction set, with few and many tokens and 1 to 3
// threads, against the references in double precision.
#include <doctest/doctest.h>

#include "tests/backends/cpu/op_reference.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

std::vector<float> some(int64_t n, uint64_t seed, float deviation = 1) {
  return normals(static_cast<size_t>(n), seed, deviation);
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("norm gradients: rows and heads, weights trained and frozen") {
  for_each_run([](const OpRun& run) {
    const int64_t n = 60;
    for (const int64_t group : {n, n / 3, int64_t{5}}) {
      const NormAttrs a{1e-5f, group};
      const OpArgument x = floats({kTokens, n}, some(run.n_tokens * n, 1, 2)),
                       dy = floats({kTokens, n}, some(run.n_tokens * n, 2)), w = weights({group}, some(group, 3)),
                       gw = gradient({group}, some(group, 4)), gb = gradient({group}, some(group, 5));
      check_against_f64(Op::kRmsNormGrad, {x, w, dy, gw}, a, run, 4e-6);
      check_against_f64(Op::kRmsNormGrad, {x, w, dy, absent()}, a, run, 4e-6);
      check_against_f64(Op::kRmsNormGrad, {x, absent(), dy, absent()}, a, run, 4e-6);
      check_against_f64(Op::kLayerNormGrad, {x, w, dy, gw, gb}, a, run, 1e-5);
      check_against_f64(Op::kLayerNormGrad, {x, w, dy, gw, absent()}, a, run, 1e-5);
      check_against_f64(Op::kLayerNormGrad, {x, w, dy, absent(), gb}, a, run, 1e-5);
    }
  });
}

TEST_CASE("a norm's weight gradient adds up the rows of many shares") {
  for (const std::string& isa : runnable_isas())
    for (const int threads : {1, 2, 3}) {
      const OpRun run{isa, threads, true, false, 203, 1};
      const OpArgument x = floats({kTokens, 33}, some(203 * 33, 1)), dy = floats({kTokens, 33}, some(203 * 33, 2));
      check_against_f64(Op::kRmsNormGrad, {x, weights({33}, some(33, 3)), dy, gradient({33}, some(33, 4))},
                        NormAttrs{1e-5f, 33}, run, 4e-6);
    }
}

TEST_CASE("softmax_grad") {
  for_each_run([](const OpRun& run) {
    const int64_t n = 37;
    std::vector<OpArgument> x = {floats({kTokens, n}, some(run.n_tokens * n, 1, 3))};
    const OpArgument y = floats({kTokens, n}, run_op(Op::kSoftmax, x, NoAttrs{}, run)[0]);
    check_against_f64(Op::kSoftmaxGrad, {y, floats({kTokens, n}, some(run.n_tokens * n, 2))}, NoAttrs{}, run, 2e-6);
  });
}

TEST_CASE("rope turns back by the same angles") {
  for_each_run([](const OpRun& run) {
    const int64_t dims = 8, head = 20, heads = 3;
    const OpArgument x = floats({kTokens, heads * head}, some(run.n_tokens * heads * head, 1)),
                     table = floats({kTokens, dims}, some(run.n_tokens * dims, 2));
    for (const RopeStyle style : {RopeStyle::kInterleaved, RopeStyle::kHalfSplit})
      for (const int64_t offset : {0, 5, 12})
        for (const bool inverse : {false, true})
          check_against_f64(Op::kRope, {x, table}, RopeAttrs{head, offset, dims, style, inverse}, run, 1e-6);
  });
}

TEST_SUITE_END();

}  // namespace moe

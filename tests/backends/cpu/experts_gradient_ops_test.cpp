// Reverse passes of activations, gated units and routed experts on the CPU backend, against the references in double precision.
#include <doctest/doctest.h>

#include <algorithm>

#include "core/rng.h"
#include "tests/backends/cpu/op_fixture.h"
#include "tests/backends/cpu/op_reference.h"

namespace moe {
namespace {

using namespace test;

size_t count(int64_t a, int64_t b = 1, int64_t c = 1) { return static_cast<size_t>(a * b * c); }

// A routed batch. Of several experts the last but one is used by nobody, one slot in five is empty, now and then all slots of
// a token are.
struct Routing {
  int64_t K;
  std::vector<int32_t> ids;
  std::vector<float> weights;
  Routing(int64_t n_experts, int64_t k, int64_t T) : K(k) {
    Rng rng(3);
    for (int64_t t = 0; t < T; ++t) {
      const auto first = static_cast<int64_t>(rng.below(static_cast<uint64_t>(n_experts)));
      for (int64_t s = 0; s < K; ++s) {
        int64_t e = (first + s * (n_experts - 1)) % n_experts;  // descending, as nobody sums them
        if ((n_experts > 1 && e == n_experts - 2) || rng.below(5) == 0 || t % 11 == 4) e = -1;
        ids.push_back(static_cast<int32_t>(e)), weights.push_back(rng.normal());
      }
    }
  }
  OpArgument argument() const { return ints({kTokens, K}, ids); }
};

// The stacked matrices (E, o, i) of a case, and widths of all kinds within.
struct Stack {
  int64_t E, o, i, K;
  bool widths;

  OpArgument rows_used() const { return limits(o, 1); }
  OpArgument cols_used() const { return limits(i, 2); }

 private:
  OpArgument limits(int64_t most, int64_t shift) const {
    if (!widths) return absent();
    std::vector<int32_t> v;
    for (int64_t e = 0; e < E; ++e) v.push_back(static_cast<int32_t>((e + shift) % 4 * most / 3));
    return ints({E}, v);
  }
};

constexpr Stack kStacks[] = {{7, 37, 45, 3, false}, {7, 37, 45, 3, true}, {1, 33, 16, 1, false},
                             {5, 64, 96, 1, true},  {2, 5, 3, 2, false},  {1000, 3, 5, 4, false}};

template <class F>
void for_each_stack(F&& f) {
  for_each_run([&](const OpRun& run) {
    for (const Stack& s : kStacks) {
      CAPTURE(s.E);
      CAPTURE(s.widths);
      f(s, Routing(s.E, s.K, run.n_tokens), run);
    }
  });
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("silu_grad, gelu_grad and sigmoid_grad multiply by the slope") {
  for_each_run([](const OpRun& run) {
    const std::vector<float> x = normals(count(run.n_tokens, 3, 45), 1, 4), dy = normals(x.size(), 2);
    const Shape cube{kTokens, 3, 45};
    for (const Op op : {Op::kSiluGrad, Op::kGeluGrad, Op::kSigmoidGrad})
      check_against_f64(op, {floats(cube, x), floats(cube, dy)}, NoAttrs{}, run, 1e-6);
  });
}

TEST_CASE("glu_grad of every unit gives both gradients") {
  constexpr GluAttrs kUnits[] = {{}, {GateUnit::kGeGlu, 1, 0}, {GateUnit::kSwiGlu, 1.702f, 1.5f}};
  for_each_run([&](const OpRun& run) {
    for (const Shape& shape : {Shape{kTokens, 45}, Shape{kTokens, 3, 15}})
      for (const GluAttrs& unit : kUnits) {
        const size_t n = count(run.n_tokens, 45);
        check_against_f64(Op::kGluGrad,
                          {floats(shape, normals(n, 1, 2)), floats(shape, normals(n, 2)), floats(shape, normals(n, 3))}, unit,
                          run, 2e-6);
      }
  });
}

TEST_CASE("weighted_sum_grad does not look at slots without an expert") {
  for_each_run([](const OpRun& run) {
    for (const int64_t K : {1, 3}) {
      const Routing r(7, K, run.n_tokens);
      const int64_t n = 45;
      std::vector<float> x = normals(count(run.n_tokens, K, n), 1);
      for (size_t slot = 0; slot < r.ids.size(); ++slot)
        if (r.ids[slot] < 0) std::fill_n(x.begin() + static_cast<ptrdiff_t>(slot) * n, n, 1e30f);
      check_against_f64(Op::kWeightedSumGrad,
                        {floats({kTokens, K, n}, x), r.argument(), floats({kTokens, K}, r.weights),
                         floats({kTokens, n}, normals(count(run.n_tokens, n), 2))},
                        NoAttrs{}, run, 2e-6);
    }
  });
}

TEST_CASE("moe_linear for throughput meets each slot's expert within its widths, of tokens and of slots, biased or not") {
  for_each_stack([](const Stack& s, const Routing& r, OpRun run) {
    run.throughput = true;
    const OpArgument tokens = floats({kTokens, s.i}, normals(count(run.n_tokens, s.i), 1)),
                     slots = floats({kTokens, s.K, s.i}, normals(count(run.n_tokens, s.K, s.i), 2)),
                     w = weights({s.E, s.o, s.i}, normals(count(s.E, s.o, s.i), 3)),
                     bias = weights({s.E, s.o}, normals(count(s.E, s.o), 4));
    check_against_f64(Op::kMoeLinear, {tokens, r.argument(), w, absent(), s.rows_used(), s.cols_used()}, NoAttrs{}, run, 2e-6);
    check_against_f64(Op::kMoeLinear, {slots, r.argument(), w, bias, s.rows_used(), s.cols_used()}, NoAttrs{}, run, 2e-6);
  });
}

TEST_CASE("moe_linear for throughput takes weights of every format, blocks of which it decodes or not") {
  const Stack s{5, 130, 576, 2, true};
  std::vector<OpArgument> stacked;
  for (const DType format : {DType::kBF16, DType::kQ8_0, DType::kF16})
    stacked.push_back(weights({s.E, s.o, s.i}, normals(count(s.E, s.o, s.i), 2), format));
  const OpArgument blocks = ints({s.E}, {32, 576, 0, 320, 64});
  for_each_run([&](OpRun run) {
    run.throughput = true;
    const Routing r(s.E, s.K, run.n_tokens);
    const OpArgument x = floats({kTokens, s.K, s.i}, normals(count(run.n_tokens, s.K, s.i), 1)),
                     bias = weights({s.E, s.o}, normals(count(s.E, s.o), 4));
    for (const OpArgument& w : stacked)
      check_against_f64(Op::kMoeLinear, {x, r.argument(), w, bias, s.rows_used(), blocks}, NoAttrs{}, run, 4e-6);
    check_against_f64(Op::kMoeLinear, {x, r.argument(), stacked[0], absent(), s.rows_used(), s.cols_used()}, NoAttrs{}, run,
                      4e-6);
  });
}

TEST_CASE("moe_linear_dx meets each slot's expert within its widths") {
  for_each_stack([](const Stack& s, const Routing& r, const OpRun& run) {
    const OpArgument dy = floats({kTokens, s.K, s.o}, normals(count(run.n_tokens, s.K, s.o), 1)),
                     w = weights({s.E, s.o, s.i}, normals(count(s.E, s.o, s.i), 2));
    for (const bool slots : {false, true})
      check_against_f64(Op::kMoeLinearDx, {dy, r.argument(), w, s.rows_used(), s.cols_used()}, MoeGradAttrs{slots}, run, 2e-6);
  });
}

TEST_CASE("moe_linear_dx decodes weights of other formats block by block") {
  const Stack s{5, 130, 576, 2, true};
  std::vector<OpArgument> stacked;
  for (const DType format : {DType::kBF16, DType::kQ8_0, DType::kF16})
    stacked.push_back(weights({s.E, s.o, s.i}, normals(count(s.E, s.o, s.i), 2), format));
  for_each_run([&](const OpRun& run) {
    const Routing r(s.E, s.K, run.n_tokens);
    const OpArgument dy = floats({kTokens, s.K, s.o}, normals(count(run.n_tokens, s.K, s.o), 1));
    for (const OpArgument& w : stacked)
      check_against_f64(Op::kMoeLinearDx, {dy, r.argument(), w, s.rows_used(), s.cols_used()}, MoeGradAttrs{false}, run, 2e-6);
  });
}

TEST_CASE("moe_linear_dw adds to the experts that have tokens, of tokens and of slots") {
  for_each_stack([](const Stack& s, const Routing& r, const OpRun& run) {
    const OpArgument dy = floats({kTokens, s.K, s.o}, normals(count(run.n_tokens, s.K, s.o), 1)),
                     tokens = floats({kTokens, s.i}, normals(count(run.n_tokens, s.i), 2)),
                     slots = floats({kTokens, s.K, s.i}, normals(count(run.n_tokens, s.K, s.i), 3)),
                     grad = gradient({s.E, s.o, s.i}, normals(count(s.E, s.o, s.i), 4)),
                     grad_bias = gradient({s.E, s.o}, normals(count(s.E, s.o), 5));
    const auto check = [&](const OpArgument& x, const OpArgument& g, const OpArgument& b) {
      check_against_f64(Op::kMoeLinearDw, {dy, x, r.argument(), s.rows_used(), s.cols_used(), g, b}, ProductGradAttrs{}, run,
                        2e-6);
    };
    check(tokens, grad, grad_bias);
    check(slots, grad, absent());
    check(tokens, absent(), grad_bias);
  });
}

TEST_CASE("more pairs of an expert than a block of a product holds leave the gradients of whole groups") {
  const Stack s{3, 700, 800, 2, false};
  for (const int threads : {1, 3}) {
    const OpRun run{"", threads, true, false, 2000, 1};
    const Routing r(s.E, s.K, run.n_tokens);
    REQUIRE(std::count(r.ids.begin(), r.ids.end(), 0) > 600);
    const OpArgument dy = floats({kTokens, s.K, s.o}, normals(count(run.n_tokens, s.K, s.o), 1)),
                     x = floats({kTokens, s.i}, normals(count(run.n_tokens, s.i), 2)), rows_used = ints({s.E}, {9, 17, 33}),
                     cols_used = ints({s.E}, {40, 20, 10});
    check_against_f64(Op::kMoeLinearDx,
                      {dy, r.argument(), weights({s.E, s.o, s.i}, normals(count(s.E, s.o, s.i), 3)), rows_used, cols_used},
                      MoeGradAttrs{false}, run, 2e-6);
    check_against_f64(
        Op::kMoeLinearDw,
        {dy, x, r.argument(), rows_used, cols_used, gradient({s.E, s.o, s.i}, std::vector<float>(count(s.E, s.o, s.i))),
         gradient({s.E, s.o}, std::vector<float>(count(s.E, s.o)))},
        ProductGradAttrs{}, run, 2e-6);
  }
}

TEST_CASE("products of bfloat16 come near the exact ones, with the bits of one thread") {
  for_each_run([](OpRun run) {
    run.exact = false;
    const Stack s{7, 64, 96, 3, true};
    const Routing r(s.E, s.K, run.n_tokens);
    const OpArgument dy = floats({kTokens, s.K, s.o}, normals(count(run.n_tokens, s.K, s.o), 1)),
                     x = floats({kTokens, s.i}, normals(count(run.n_tokens, s.i), 2));
    const OpArgument w = weights({s.E, s.o, s.i}, normals(count(s.E, s.o, s.i), 3), DType::kBF16);
    for (const bool slots : {false, true})
      check_against_f64(Op::kMoeLinearDx, {dy, r.argument(), w, s.rows_used(), s.cols_used()}, MoeGradAttrs{slots}, run, 0.01);
    OpRun fast = run;
    fast.throughput = true;
    check_against_f64(Op::kMoeLinear, {x, r.argument(), w, absent(), s.rows_used(), s.cols_used()}, NoAttrs{}, fast, 0.01);
    check_against_f64(
        Op::kMoeLinearDw,
        {dy, x, r.argument(), s.rows_used(), s.cols_used(), gradient({s.E, s.o, s.i}, normals(count(s.E, s.o, s.i), 4)),
         gradient({s.E, s.o}, normals(count(s.E, s.o), 5))},
        ProductGradAttrs{1, DType::kBF16}, run, 0.01);
  });
}

TEST_SUITE_END();

}  // namespace moe

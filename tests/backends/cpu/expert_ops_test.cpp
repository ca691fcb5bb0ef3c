// Products with routed experts: moe_linear, weighted_sum, moe_gate_up, moe_down and their fallbacks, with slots without an
// expert, experts nobody uses, and widths.
#include <doctest/doctest.h>

#include <cmath>

#include "core/rng.h"
#include "tests/backends/cpu/op_fixture.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;
using Doubles = std::vector<double>;

constexpr int64_t E = 7, K = 3, D = 64, F = 96;

// A routed batch: expert 5 is used by nobody, one slot in five is empty, now and then all slots of a token are.
struct Routing {
  std::vector<int32_t> ids;
  std::vector<float> weights;
  explicit Routing(int64_t T) {
    Rng rng(3);
    for (int64_t t = 0; t < T; ++t) {
      const auto first = static_cast<int32_t>(rng.below(E));
      for (int64_t s = 0; s < K; ++s) {
        auto e = static_cast<int32_t>((first + 2 * s) % E);
        if (e == 5 || rng.below(5) == 0 || t % 11 == 4) e = -1;
        ids.push_back(e), weights.push_back(e < 0 ? 0 : rng.uniform());
      }
    }
  }
};

const std::vector<int32_t> kWidths = {96, 32, 64, 1, 96, 40, 7};         // any, for float weights
const std::vector<int32_t> kBlockWidths = {96, 32, 64, 32, 96, 96, 64};  // whole blocks of 32

size_t at(int64_t a, int64_t n, int64_t i) { return static_cast<size_t>(a * n + i); }

// W_e[:, :cols] x + bias for one row x.
Doubles expert_product(const std::vector<float>& w, int64_t e, int64_t rows, int64_t n_in, int64_t cols, const float* x,
                       const float* bias) {
  Doubles y;
  for (int64_t r = 0; r < rows; ++r) {
    double sum = bias ? bias[e * rows + r] : 0;
    for (int64_t i = 0; i < cols; ++i) sum += double{w[at(e * rows + r, n_in, i)]} * x[i];
    y.push_back(sum);
  }
  return y;
}

double silu_glu(double g, double u) { return g / (1 + std::exp(-g)) * u; }

OpRun with_fallback(OpRun run) {
  run.expanded = true;
  return run;
}

template <class F>
void for_each_run(F&& f) {
  for (const std::string& isa : runnable_isas())
    for (const int threads : {1, 2, 3})
      for (const int64_t tokens : {1, 4, 7, 150}) {
        CAPTURE(isa);
        CAPTURE(threads);
        CAPTURE(tokens);
        f(OpRun{isa, threads, true, false, tokens, 1});
      }
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("moe_linear meets each slot's expert, and writes 0 where there is none or beyond its width") {
  for_each_run([](const OpRun& run) {
    const int64_t T = run.n_tokens;
    const Routing r(T);
    const std::vector<float> bias = normals(E * F, 5);
    for (const DType type : {DType::kF32, DType::kQ8_0, DType::kQ4_1})
      for (const bool slots : {false, true}) {
        const std::vector<float> x = normals(static_cast<size_t>(T * (slots ? K : 1) * D), 1);
        const OpArgument w = weights({E, F, D}, normals(E * F * D, 2, 0.2f), type);
        const std::vector<float> m = w.floats();
        Doubles wanted(static_cast<size_t>(T * K * F), 0), cut = wanted;
        for (int64_t p = 0; p < T * K; ++p) {
          const int e = r.ids[static_cast<size_t>(p)];
          if (e < 0) continue;
          const float* row = x.data() + (slots ? p : p / K) * D;
          const Doubles full = expert_product(m, e, F, D, D, row, bias.data()),
                        narrow = expert_product(m, e, F, D, 32, row, bias.data());
          for (int64_t i = 0; i < F; ++i) wanted[at(p, F, i)] = full[static_cast<size_t>(i)];
          for (int64_t i = 0; i < kWidths[static_cast<size_t>(e)]; ++i) cut[at(p, F, i)] = narrow[static_cast<size_t>(i)];
        }
        const OpArgument in = floats(slots ? Shape{kTokens, K, D} : Shape{kTokens, D}, x), ids = ints({kTokens, K}, r.ids),
                         b = weights({E, F}, bias);
        std::vector<OpArgument> plain = {in, ids, w, b, absent(), absent()};
        CHECK(worst_error(run_op(Op::kMoeLinear, plain, NoAttrs{}, run)[0], wanted) < 1e-5);
        std::vector<OpArgument> limited = {in, ids, w, b, ints({E}, kWidths), ints({E}, std::vector<int32_t>(E, 32))};
        CHECK(worst_error(run_op(Op::kMoeLinear, limited, NoAttrs{}, run)[0], cut) < 1e-5);
      }
  });
}

TEST_CASE("weighted_sum adds the slots that have an expert, whatever the others hold") {
  for_each_run([](const OpRun& run) {
    const int64_t T = run.n_tokens;
    const Routing r(T);
    std::vector<float> x = normals(static_cast<size_t>(T * K * D), 1);
    Doubles wanted(static_cast<size_t>(T * D), 0);
    for (int64_t p = 0; p < T * K; ++p)
      for (int64_t i = 0; i < D; ++i) {
        if (r.ids[static_cast<size_t>(p)] < 0)
          x[at(p, D, i)] = NAN;
        else
          wanted[at(p / K, D, i)] += double{r.weights[static_cast<size_t>(p)]} * x[at(p, D, i)];
      }
    std::vector<OpArgument> arguments = {floats({kTokens, K, D}, x), ints({kTokens, K}, r.ids),
                                         floats({kTokens, K}, r.weights)};
    CHECK(worst_error(run_op(Op::kWeightedSum, arguments, NoAttrs{}, run)[0], wanted) < 1e-6);
  });
}

TEST_CASE("moe_gate_up fills the used channels of used slots like its fallback, apart or merged, biased or not") {
  for_each_run([](const OpRun& run) {
    const int64_t T = run.n_tokens;
    const Routing r(T);
    const std::vector<float> x = normals(static_cast<size_t>(T * D), 1), gate = normals(E * F * D, 2, 0.2f),
                             up = normals(E * F * D, 3, 0.2f), gate_bias = normals(E * F, 4), up_bias = normals(E * F, 5);
    std::vector<float> both, both_bias;
    for (int64_t e = 0; e < E; ++e) {
      for (const auto* half : {&gate, &up}) both.insert(both.end(), half->begin() + e * F * D, half->begin() + (e + 1) * F * D);
      for (const auto* half : {&gate_bias, &up_bias})
        both_bias.insert(both_bias.end(), half->begin() + e * F, half->begin() + (e + 1) * F);
    }
    const OpArgument in = floats({kTokens, D}, x), ids = ints({kTokens, K}, r.ids), width = ints({E}, kWidths);
    for (const bool biased : {false, true})
      for (const bool merged : {false, true}) {
        std::vector<OpArgument> arguments = {in, ids};
        if (merged) {
          arguments.push_back(weights({E, 2 * F, D}, both)), arguments.push_back(absent());
          arguments.push_back(biased ? weights({E, 2 * F}, both_bias) : absent()), arguments.push_back(absent());
        } else {
          arguments.push_back(weights({E, F, D}, gate)), arguments.push_back(weights({E, F, D}, up));
          arguments.push_back(biased ? weights({E, F}, gate_bias) : absent());
          arguments.push_back(biased ? weights({E, F}, up_bias) : absent());
        }
        arguments.push_back(width);
        for (const OpRun& how : {run, with_fallback(run)}) {
          const std::vector<float> h = run_op(Op::kMoeGateUp, arguments, GluAttrs{}, how)[0];
          double worst = 0;
          for (int64_t p = 0; p < T * K; ++p) {
            const int e = r.ids[static_cast<size_t>(p)];
            if (e < 0) continue;
            const float* row = x.data() + p / K * D;
            const Doubles g = expert_product(gate, e, F, D, D, row, biased ? gate_bias.data() : nullptr),
                          u = expert_product(up, e, F, D, D, row, biased ? up_bias.data() : nullptr);
            for (int64_t i = 0; i < kWidths[static_cast<size_t>(e)]; ++i) {
              const double error = std::fabs(h[at(p, F, i)] - silu_glu(g[static_cast<size_t>(i)], u[static_cast<size_t>(i)]));
              if (!(error <= worst)) worst = std::isnan(error) ? 1e9 : error;
            }
          }
          CHECK(worst < 1e-4);
        }
      }
  });
}

TEST_CASE("moe_down sums experts, bias, scale and residual, and reads no channel beyond a width") {
  for_each_run([](const OpRun& run) {
    const int64_t T = run.n_tokens;
    const Routing r(T);
    const std::vector<float> bias = normals(E * D, 5), residual = normals(static_cast<size_t>(T * D), 6);
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0}) {
      const std::vector<int32_t>& widths = type == DType::kQ8_0 ? kBlockWidths : kWidths;
      std::vector<float> h = normals(static_cast<size_t>(T * K * F), 1);
      for (int64_t p = 0; p < T * K; ++p)  // what gate_up leaves unwritten may be anything
        for (int64_t i = 0; i < F; ++i) {
          const int e = r.ids[static_cast<size_t>(p)];
          if (e < 0 || i >= widths[static_cast<size_t>(e)]) h[at(p, F, i)] = NAN;
        }
      const OpArgument w = weights({E, D, F}, normals(E * D * F, 2, 0.2f), type);
      const std::vector<float> m = w.floats();
      for (const bool full : {false, true}) {
        Doubles wanted(static_cast<size_t>(T * D), 0);
        for (int64_t p = 0; p < T * K; ++p) {
          const int e = r.ids[static_cast<size_t>(p)];
          if (e < 0) continue;
          const Doubles y =
              expert_product(m, e, D, F, widths[static_cast<size_t>(e)], h.data() + p * F, full ? bias.data() : nullptr);
          for (int64_t i = 0; i < D; ++i)
            wanted[at(p / K, D, i)] += double{r.weights[static_cast<size_t>(p)]} * y[static_cast<size_t>(i)];
        }
        if (full)
          for (size_t i = 0; i < wanted.size(); ++i) wanted[i] = residual[i] + 0.25 * wanted[i];
        std::vector<OpArgument> arguments = {floats({kTokens, K, F}, h),
                                             ints({kTokens, K}, r.ids),
                                             floats({kTokens, K}, r.weights),
                                             w,
                                             full ? weights({E, D}, bias) : absent(),
                                             ints({E}, widths),
                                             full ? floats({kTokens, D}, residual) : absent()};
        const ScaleAttrs scale{full ? 0.25f : 1.0f};
        const std::vector<float> found = run_op(Op::kMoeDown, arguments, scale, run)[0];
        CHECK(worst_error(found, wanted) < 1e-5);
        CHECK(worst_error(run_op(Op::kMoeDown, arguments, scale, with_fallback(run))[0], wanted) < 1e-5);
        OpRun alone = run, rounded = run;
        alone.n_threads = 1, rounded.exact = false;
        CHECK(same_bits(run_op(Op::kMoeDown, arguments, scale, alone)[0], found));
        CHECK(worst_error(run_op(Op::kMoeDown, arguments, scale, rounded)[0], wanted) < 3e-2);
      }
    }
  });
}

TEST_SUITE_END();

}  // namespace moe

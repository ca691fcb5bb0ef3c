// Every op on the CPU backend, on every instruction set, with few and many tokens and 1 to 3 threads, against a plain
// computation in double precision. Products with experts, routing and attention have files of their own.
#include <doctest/doctest.h>

#include <cmath>
#include <numbers>

#include "tests/backends/cpu/op_reference.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;
using Doubles = std::vector<double>;

size_t count(int64_t a, int64_t b = 1, int64_t c = 1) { return static_cast<size_t>(a * b * c); }

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x))); }

double glu(double g, double u, const GluAttrs& a) {
  if (a.limit > 0) {
    g = std::min(g, double{a.limit}), u = std::min(std::max(u, -double{a.limit}), double{a.limit});
    return g * sigmoid(a.alpha * g) * (u + 1);
  }
  return (a.unit == GateUnit::kGeGlu ? gelu(g) : g * sigmoid(g)) * u;
}

// Checks output 0 and that it has the bits of one thread.
void check(Op op, std::vector<OpArgument> arguments, const Attrs& attrs, const OpRun& run, const Doubles& wanted,
           double limit) {
  std::vector<OpArgument> again = arguments;
  const std::vector<float> found = run_op(op, arguments, attrs, run)[0];
  CHECK_MESSAGE(worst_error(found, wanted) <= limit, op_name(op));
  OpRun alone = run;
  alone.n_threads = 1;
  CHECK(same_bits(run_op(op, again, attrs, alone)[0], found));
}

// y[t] = W x[t]
Doubles product(const std::vector<float>& x, const std::vector<float>& w, int64_t n_in) {
  Doubles y;
  for (size_t t = 0; t < x.size(); t += static_cast<size_t>(n_in))
    for (size_t r = 0; r < w.size(); r += static_cast<size_t>(n_in)) {
      double sum = 0;
      for (size_t i = 0; i < static_cast<size_t>(n_in); ++i) sum += double{x[t + i]} * w[r + i];
      y.push_back(sum);
    }
  return y;
}

constexpr GluAttrs kGlus[] = {{GateUnit::kSwiGlu, 1, 0}, {GateUnit::kGeGlu, 1, 0}, {GateUnit::kSwiGlu, 1.702f, 1.5f}};

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("elementwise ops and softmax compute what their formulas say") {
  struct Unary {
    Op op;
    Attrs attrs;
    double (*f)(double);
  };
  const Unary unary[] = {{Op::kSilu, NoAttrs{}, [](double x) { return x * sigmoid(x); }},
                         {Op::kGelu, NoAttrs{}, gelu},
                         {Op::kSigmoid, NoAttrs{}, sigmoid},
                         {Op::kScale, ScaleAttrs{-0.25f}, [](double x) { return -0.25 * x; }}};
  for_each_run([&](const OpRun& run) {
    const int64_t n = 77;
    const std::vector<float> x = normals(count(run.n_tokens, n), 1, 3);
    const OpArgument rows = floats({kTokens, n}, x);
    for (const Unary& u : unary) {
      Doubles wanted;
      for (const float v : x) wanted.push_back(u.f(v));
      check(u.op, {rows}, u.attrs, run, wanted, 1e-6);
    }
    Doubles soft;
    for (size_t t = 0; t < x.size(); t += n) {
      double sum = 0;
      for (size_t i = 0; i < n; ++i) sum += std::exp(double{x[t + i]});
      for (size_t i = 0; i < n; ++i) soft.push_back(std::exp(double{x[t + i]}) / sum);
    }
    check(Op::kSoftmax, {rows}, NoAttrs{}, run, soft, 1e-6);
  });
}

TEST_CASE("add, mul and glu take a second input of every allowed shape") {
  for_each_run([&](const OpRun& run) {
    const int64_t n = 45, K = 3;
    const std::vector<float> a = normals(count(run.n_tokens, K, n), 1), b = normals(a.size(), 2), row = normals(count(n), 3),
                             one = normals(count(run.n_tokens, K), 4);
    Doubles sum, sum_row, prod, prod_row, prod_one;
    for (size_t i = 0; i < a.size(); ++i) {
      sum.push_back(double{a[i]} + b[i]), sum_row.push_back(double{a[i]} + row[i % n]);
      prod.push_back(double{a[i]} * b[i]), prod_row.push_back(double{a[i]} * row[i % n]);
      prod_one.push_back(double{a[i]} * one[i / n]);
    }
    const Shape cube{kTokens, K, n};
    check(Op::kAdd, {floats(cube, a), floats(cube, b)}, NoAttrs{}, run, sum, 1e-6);
    check(Op::kAdd, {floats(cube, a), floats({n}, row)}, NoAttrs{}, run, sum_row, 1e-6);
    check(Op::kMul, {floats(cube, a), floats(cube, b)}, NoAttrs{}, run, prod, 1e-6);
    check(Op::kMul, {floats(cube, a), floats({n}, row)}, NoAttrs{}, run, prod_row, 1e-6);
    check(Op::kMul, {floats(cube, a), floats({kTokens, K, 1}, one)}, NoAttrs{}, run, prod_one, 1e-6);
    for (const GluAttrs& g : kGlus) {
      Doubles h;
      for (size_t i = 0; i < a.size(); ++i) h.push_back(glu(a[i], b[i], g));
      check(Op::kGlu, {floats(cube, a), floats(cube, b)}, g, run, h, 1e-6);
    }
  });
}

TEST_CASE("norms are taken over each group of a row") {
  for_each_run([&](const OpRun& run) {
    const int64_t n = 60;
    const std::vector<float> x = normals(count(run.n_tokens, n), 1, 2);
    for (const int64_t group : {n, n / 3, int64_t{1}}) {
      const std::vector<float> w = normals(count(group), 2), b = normals(count(group), 3);
      const double eps = 1e-5f;
      Doubles rms, plain, layer;
      for (size_t g = 0; g < x.size(); g += static_cast<size_t>(group)) {
        double squares = 0, mean = 0, variance = 0;
        const auto m = static_cast<size_t>(group);
        for (size_t i = 0; i < m; ++i) squares += double{x[g + i]} * x[g + i], mean += x[g + i];
        mean /= static_cast<double>(m);
        for (size_t i = 0; i < m; ++i) variance += (x[g + i] - mean) * (x[g + i] - mean);
        const double by_rms = 1 / std::sqrt(squares / static_cast<double>(m) + eps),
                     by_sd = 1 / std::sqrt(variance / static_cast<double>(m) + eps);
        for (size_t i = 0; i < m; ++i) {
          plain.push_back(x[g + i] * by_rms), rms.push_back(x[g + i] * by_rms * w[i]);
          layer.push_back((x[g + i] - mean) * by_sd * w[i] + b[i]);
        }
      }
      const OpArgument rows = floats({kTokens, n}, x), weight = weights({group}, w), bias = weights({group}, b);
      check(Op::kRmsNorm, {rows, weight}, NormAttrs{1e-5f, group}, run, rms, 2e-6);
      check(Op::kRmsNorm, {rows, absent()}, NormAttrs{1e-5f, group}, run, plain, 2e-6);
      if (group > 1) check(Op::kLayerNorm, {rows, weight, bias}, NormAttrs{1e-5f, group}, run, layer, 4e-6);
    }
  });
}

TEST_CASE("rows are embedded, selected, sliced and joined where they belong, exactly") {
  for_each_run([&](const OpRun& run) {
    const int64_t T = run.n_tokens, R = run.n_outputs, n = 96;
    const std::vector<float> table = normals(count(11, n), 1), x = normals(count(T, n), 2), z = normals(count(T, 12), 3);
    std::vector<int32_t> ids, rows;
    for (int64_t t = 0; t < T; ++t) ids.push_back(static_cast<int32_t>(t * 7 % 11));
    for (int64_t r = 0; r < R; ++r) rows.push_back(static_cast<int32_t>((T - 1 - r) % T));
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
      const OpArgument w = weights({11, n}, table, type);
      const std::vector<float> decoded = w.floats();
      Doubles wanted;
      for (const int32_t id : ids) wanted.insert(wanted.end(), decoded.begin() + id * n, decoded.begin() + (id + 1) * n);
      check(Op::kEmbed, {w, ints({kTokens}, ids)}, NoAttrs{}, run, wanted, 1e-7);
    }
    Doubles selected, sliced, joined, shared;
    for (const int32_t row : rows) selected.insert(selected.end(), x.begin() + row * n, x.begin() + (row + 1) * n);
    check(Op::kSelectRows, {floats({kTokens, n}, x), ints({kOutputs}, rows)}, NoAttrs{}, run, selected, 0);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t g = 0; g < 4; ++g) {
        const auto part = x.begin() + t * n + g * 24;
        sliced.insert(sliced.end(), part + 5, part + 20);
        joined.insert(joined.end(), part, part + 24), shared.insert(shared.end(), part, part + 24);
        joined.insert(joined.end(), z.begin() + t * 12 + g * 3, z.begin() + t * 12 + g * 3 + 3);
        shared.insert(shared.end(), z.begin() + t * 12, z.begin() + t * 12 + 12);
      }
    const OpArgument rows_x = floats({kTokens, n}, x), rows_z = floats({kTokens, 12}, z);
    check(Op::kSlice, {rows_x}, GroupAttrs{4, 5, 20, false}, run, sliced, 0);
    check(Op::kConcat, {rows_x, rows_z}, GroupAttrs{4, 0, 0, false}, run, joined, 0);
    check(Op::kConcat, {rows_x, rows_z}, GroupAttrs{4, 0, 0, true}, run, shared, 0);
    // Rows of slots, (T, K, n): every one of them.
    Doubles slots;
    const std::vector<float> deep = normals(count(T, 2, 6), 4), tail = normals(count(T, 2, 3), 5);
    for (int64_t i = 0; i < T * 2; ++i) {
      slots.insert(slots.end(), deep.begin() + i * 6, deep.begin() + i * 6 + 6);
      slots.insert(slots.end(), tail.begin() + i * 3, tail.begin() + i * 3 + 3);
    }
    check(Op::kConcat, {floats({kTokens, 2, 6}, deep), floats({kTokens, 2, 3}, tail)}, GroupAttrs{1, 0, 0, false}, run, slots,
          0);
  });
}

TEST_CASE("rope turns the pairs of both styles by the table's angles and copies the rest") {
  for_each_run([&](const OpRun& run) {
    const int64_t T = run.n_tokens, dims = 8, head = 20, heads = 3;
    std::vector<int32_t> positions;
    for (int64_t t = 0; t < T; ++t) positions.push_back(static_cast<int32_t>(t * 37 % 1000));
    const std::vector<float> factors = {1, 1.5f, 2, 4};
    RopeTableAttrs a;
    a.dims = dims, a.base = 5000, a.freq_scale = 0.5f, a.attn_factor = 1.25f;
    Doubles wanted;
    std::vector<float> table;
    for (int64_t t = 0; t < T; ++t) {
      for (const bool sine : {false, true})
        for (int64_t i = 0; i < dims / 2; ++i) {
          const double angle = positions[static_cast<size_t>(t)] * std::pow(5000.0, -2.0 * static_cast<double>(i) / dims) /
                               factors[static_cast<size_t>(i)] * 0.5;
          wanted.push_back(1.25 * (sine ? std::sin(angle) : std::cos(angle)));
        }
    }
    check(Op::kRopeTable, {ints({kTokens}, positions), weights({dims / 2}, factors)}, a, run, wanted, 1e-6);
    for (const double v : wanted) table.push_back(static_cast<float>(v));
    const std::vector<float> x = normals(count(T, heads, head), 1);
    struct Place {
      int64_t head_dim, offset;
    };
    for (const RopeStyle style : {RopeStyle::kInterleaved, RopeStyle::kHalfSplit})
      for (const Place place : {Place{head, 0}, Place{head, 12}, Place{head, 5}}) {
        Doubles turned(x.begin(), x.end());
        for (int64_t t = 0; t < T; ++t)
          for (int64_t h = 0; h < heads; ++h)
            for (int64_t i = 0; i < dims / 2; ++i) {
              const bool pairs = style == RopeStyle::kInterleaved;
              const int64_t base = (t * heads + h) * head + place.offset, i0 = base + (pairs ? 2 * i : i),
                            i1 = base + (pairs ? 2 * i + 1 : i + dims / 2);
              const double c = table[count(t, dims) + static_cast<size_t>(i)],
                           s = table[count(t, dims) + static_cast<size_t>(i + dims / 2)];
              const double x0 = x[static_cast<size_t>(i0)], x1 = x[static_cast<size_t>(i1)];
              turned[static_cast<size_t>(i0)] = x0 * c - x1 * s, turned[static_cast<size_t>(i1)] = x0 * s + x1 * c;
            }
        check(Op::kRope, {floats({kTokens, heads * head}, x), floats({kTokens, dims}, table)},
              RopeAttrs{place.head_dim, place.offset, dims, style}, run, turned, 1e-6);
      }
  });
}

TEST_CASE("YaRN keeps fast dimensions, interpolates slow ones and mixes in between") {
  RopeTableAttrs a;
  a.dims = 64, a.base = 10000, a.freq_scale = 1.0f / 16, a.ext_factor = 1, a.original_ctx = 4096;
  OpRun run;
  std::vector<OpArgument> arguments = {ints({kTokens}, {1})};
  const std::vector<float> table = run_op(Op::kRopeTable, arguments, a, run)[0];
  const auto dimension = [](double turns) {
    return 64 * std::log(4096 / (turns * 2 * std::numbers::pi)) / (2 * std::log(1e4));
  };
  const double low = std::floor(dimension(32)), high = std::ceil(dimension(1));
  REQUIRE(low > 0);
  REQUIRE(high < 31);
  Doubles wanted(64);
  for (size_t i = 0; i < 32; ++i) {
    const double theta = std::pow(1e4, -2.0 * static_cast<double>(i) / 64);
    const double slow = std::min(1.0, std::max(0.0, (static_cast<double>(i) - low) / (high - low)));
    const double angle = theta * (1 - slow) + theta / 16 * slow;
    wanted[i] = std::cos(angle), wanted[i + 32] = std::sin(angle);
  }
  CHECK(worst_error(table, wanted) < 1e-6);
}

TEST_CASE("linear adds bias, scale and residual to products with weights of every format") {
  for_each_run([&](const OpRun& run) {
    const int64_t T = run.n_tokens, n_in = 256, n_out = 35;
    const std::vector<float> x = normals(count(T, n_in), 1), bias = normals(count(n_out), 3),
                             residual = normals(count(T, n_out), 4);
    for (const DTypeTraits& f : all_dtypes()) {
      if (!f.is_weight) continue;
      CAPTURE(f.name);
      const OpArgument w = weights({n_out, n_in}, normals(count(n_out, n_in), 2, 0.1f), f.dtype);
      const Doubles plain = product(x, w.floats(), n_in);
      Doubles full;
      for (size_t i = 0; i < plain.size(); ++i) full.push_back(residual[i] + 0.5 * (plain[i] + bias[i % n_out]));
      const OpArgument rows = floats({kTokens, n_in}, x), b = weights({n_out}, bias);
      check(Op::kLinear, {rows, w, absent(), absent()}, ScaleAttrs{}, run, plain, 1e-5);
      check(Op::kLinear, {rows, w, b, floats({kTokens, n_out}, residual)}, ScaleAttrs{0.5f}, run, full, 1e-5);
      OpRun rounded = run;
      rounded.exact = false;
      check(Op::kLinear, {rows, w, absent(), absent()}, ScaleAttrs{}, rounded, plain, 2e-2);
    }
  });
}

TEST_CASE("head_linear multiplies each head with its own rows, straight and transposed") {
  for_each_run([&](const OpRun& run) {
    const int64_t T = run.n_tokens, heads = 3, block = 10, begin = 2, rows = 7, n = 64;
    for (const DType type : {DType::kF32, DType::kBF16, DType::kQ8_0, DType::kQ5_1}) {
      const OpArgument w = weights({heads * block, n}, normals(count(heads * block, n), 1), type);
      const std::vector<float> m = w.floats();
      for (const bool transposed : {false, true}) {
        const int64_t in = transposed ? rows : n, out = transposed ? n : rows;
        const std::vector<float> x = normals(count(T, heads, in), 2);
        Doubles wanted(count(T, heads, out));
        for (int64_t t = 0; t < T; ++t)
          for (int64_t h = 0; h < heads; ++h)
            for (int64_t r = 0; r < rows; ++r)
              for (int64_t i = 0; i < n; ++i) {
                const double weight = m[count(h * block + begin + r, n) + static_cast<size_t>(i)];
                const int64_t from = transposed ? r : i, to = transposed ? i : r;
                wanted[count(t * heads + h, out) + static_cast<size_t>(to)] +=
                    weight * x[count(t * heads + h, in) + static_cast<size_t>(from)];
              }
        check(Op::kHeadLinear, {floats({kTokens, heads * in}, x), w}, HeadLinearAttrs{heads, block, begin, rows, transposed},
              run, wanted, 1e-5);
      }
    }
  });
}

TEST_CASE("linear_glu equals its fallback and the formula, with gate and up apart or merged, biased or not") {
  for_each_run([&](const OpRun& run) {
    const int64_t T = run.n_tokens, d = 64, f = 37;
    const std::vector<float> x = normals(count(T, d), 1), both_bias = normals(count(2 * f), 4);
    const std::vector<float> both = normals(count(2 * f, d), 2, 0.2f);
    const auto half = static_cast<std::ptrdiff_t>(both.size() / 2);
    const OpArgument merged = weights({2 * f, d}, both), gate = weights({f, d}, {both.begin(), both.begin() + half}),
                     up = weights({f, d}, {both.begin() + half, both.end()});
    const OpArgument merged_bias = weights({2 * f}, both_bias),
                     gate_bias = weights({f}, {both_bias.begin(), both_bias.begin() + f}),
                     up_bias = weights({f}, {both_bias.begin() + f, both_bias.end()});
    const Doubles rows = product(x, both, d);
    for (const GluAttrs& a : kGlus)
      for (const bool biased : {false, true}) {
        Doubles wanted;
        for (size_t t = 0; t < count(T); ++t)
          for (size_t j = 0; j < count(f); ++j)
            wanted.push_back(glu(rows[t * count(2 * f) + j] + biased * both_bias[j],
                                 rows[t * count(2 * f) + count(f) + j] + biased * both_bias[count(f) + j], a));
        const OpArgument in = floats({kTokens, d}, x);
        const std::vector<OpArgument> apart = {in, gate, up, biased ? gate_bias : absent(), biased ? up_bias : absent()},
                                      together = {in, merged, absent(), biased ? merged_bias : absent(), absent()};
        OpRun expanded = run;
        expanded.expanded = true;
        for (const auto& arguments : {apart, together})
          for (const OpRun& how : {run, expanded}) check(Op::kLinearGlu, arguments, a, how, wanted, 1e-5);
      }
  });
}

TEST_SUITE_END();

}  // namespace moe

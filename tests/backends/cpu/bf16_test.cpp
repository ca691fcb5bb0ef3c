// Products of bfloat16 weights with bfloat16 activations, in every instruction set this processor can run that has them,
// against double precision; and the encoder of such activations. Rows lie in heap blocks of exactly their size, outputs between
// NaN canaries.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/dispatch.h"
#include "backends/cpu/kernels.h"
#include "core/half.h"
#include "core/isa.h"
#include "core/rng.h"

namespace moe::cpu {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int kBF16 = static_cast<int>(DType::kBF16);

std::vector<const KernelTable*> runnable_tables() {
  const CpuFeatures cpu = detect_cpu();
  std::vector<const KernelTable*> tables;
  for (const Isa isa : supported_isas(cpu)) {
    const Result<const KernelTable*> table = kernels_for(isa, cpu);
    REQUIRE_MESSAGE(table.ok(), table.status().message());
    tables.push_back(*table);
  }
  return tables;
}

std::vector<const KernelTable*> tables_with_products() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table : runnable_tables())
    if (table->dot_bf16[kBF16] != nullptr) tables.push_back(table);
  if (tables.empty()) MESSAGE("skipped: this processor has no bfloat16 products");
  return tables;
}

std::unique_ptr<uint16_t[]> random_bf16(int64_t n, Rng& rng) {
  std::unique_ptr<uint16_t[]> h(new uint16_t[static_cast<size_t>(n)]);
  for (int64_t i = 0; i < n; ++i) h[static_cast<size_t>(i)] = f32_to_bf16(rng.normal());
  return h;
}

// Weight rows of which a call uses the first n_in elements, as a product with an expert of reduced width does.
struct Problem {
  int64_t n_in, n_rows, n_tokens, row_length;
  std::unique_ptr<uint16_t[]> w;               // (n_rows, row_length)
  std::vector<std::unique_ptr<uint16_t[]>> x;  // (n_tokens) of (n_in)

  Problem(int64_t in, int64_t rows, int64_t tokens, uint64_t seed, int64_t beyond = 0)
      : n_in(in), n_rows(rows), n_tokens(tokens), row_length(in + beyond) {
    Rng rng(seed);
    w = random_bf16(rows * row_length, rng);
    for (int64_t t = 0; t < tokens; ++t) x.push_back(random_bf16(in, rng));
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = in; i < row_length; ++i) w[static_cast<size_t>(r * row_length + i)] = 0x7fc0;  // NaN
  }

  double weight(int64_t r, int64_t i) const { return bf16_to_f32(w[static_cast<size_t>(r * row_length + i)]); }
  double activation(int64_t t, int64_t i) const { return bf16_to_f32(x[static_cast<size_t>(t)][static_cast<size_t>(i)]); }

  // Rows row .. row + rows against tokens token .. token + tokens: (tokens, rows).
  std::vector<float> dot(DotFn fn, int64_t row, int64_t rows, int64_t token, int64_t tokens) const {
    const int64_t stride = rows + 2;
    std::vector<float> y(static_cast<size_t>(tokens * stride), kNaN), results;
    std::vector<const void*> in;
    std::vector<float*> out;
    for (int64_t t = 0; t < tokens; ++t) {
      in.push_back(x[static_cast<size_t>(token + t)].get());
      out.push_back(y.data() + t * stride + 1);
    }
    const size_t row_bytes = static_cast<size_t>(row_length) * sizeof(uint16_t);
    fn({w.get() + row * row_length, row_bytes, n_in, rows, in.data(), tokens, out.data()});
    bool canaries = true;
    for (const float* to : out) {
      canaries = canaries && std::isnan(to[-1]) && std::isnan(to[rows]);
      results.insert(results.end(), to, to + rows);
    }
    CHECK_MESSAGE(canaries, "wrote beyond its rows");
    return results;
  }
};

// Every product is exact in float32's exponent range and both of a pair are added with a rounding each, so an element passes
// through at most n_in / 16 additions in its lane and 4 more across lanes.
void check_dot(DotFn fn, const Problem& p) {
  const std::vector<float> y = p.dot(fn, 0, p.n_rows, 0, p.n_tokens);
  const double tolerance = 0x1p-24 * (static_cast<double>(p.n_in) / 16 + 8);
  double worst = 0;
  for (int64_t t = 0; t < p.n_tokens; ++t) {
    for (int64_t r = 0; r < p.n_rows; ++r) {
      double value = 0, magnitude = 0;
      for (int64_t i = 0; i < p.n_in; ++i) {
        value += p.weight(r, i) * p.activation(t, i);
        magnitude += std::fabs(p.weight(r, i) * p.activation(t, i));
      }
      const double error = std::fabs(y[static_cast<size_t>(t * p.n_rows + r)] - value) / magnitude;
      worst = std::fmax(worst, error == error ? error : HUGE_VAL);
    }
  }
  CAPTURE(p.n_in);
  CAPTURE(p.n_rows);
  CAPTURE(p.n_tokens);
  CHECK(worst <= tolerance);
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("kernels: bfloat16 products are those of bf16 weights, and avx512_bf16 has them") {
  for (const KernelTable* table : runnable_tables()) {
    CAPTURE(std::string(table->isa));
    for (int i = 0; i < kNumDTypes; ++i) CHECK((table->dot_bf16[i] == nullptr || i == kBF16));
    if (std::string(table->isa) == "avx512_bf16") CHECK((table->dot_bf16[kBF16] != nullptr));
  }
}

TEST_CASE("kernels: bfloat16 products equal double precision at every shape, odd lengths and cut rows too") {
  for (const KernelTable* table : tables_with_products()) {
    CAPTURE(std::string(table->isa));
    uint64_t seed = 1;
    for (const int64_t n_in : {1, 2, 7, 31, 32, 33, 64, 95, 100, 257, 1023, 1024, 1025, 2100}) {
      const auto step = static_cast<int64_t>(seed);
      check_dot(table->dot_bf16[kBF16], Problem(n_in, 1 + step * 7 % 23, 1 + step * 5 % 9, seed));
      check_dot(table->dot_bf16[kBF16], Problem(n_in, 1 + step * 5 % 11, 1 + step * 3 % 7, seed, 1 + step % 3));
      ++seed;
    }
    check_dot(table->dot_bf16[kBF16], Problem(1061, 19, 71, 99));
  }
}

TEST_CASE("kernels: a bfloat16 product has the same bits in a call of any size") {
  for (const KernelTable* table : tables_with_products()) {
    CAPTURE(std::string(table->isa));
    const DotFn fn = table->dot_bf16[kBF16];
    const Problem p(2083, 19, 70, 3);
    const std::vector<float> all = p.dot(fn, 0, p.n_rows, 0, p.n_tokens);  // (70, 19)
    int different = 0;
    const auto compare = [&](int64_t row, int64_t rows, int64_t token, int64_t tokens) {
      const std::vector<float> some = p.dot(fn, row, rows, token, tokens);
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t r = 0; r < rows; ++r)
          different += float_bits(some[static_cast<size_t>(t * rows + r)]) !=
                       float_bits(all[static_cast<size_t>((token + t) * p.n_rows + row + r)]);
    };
    for (int64_t r = 0; r < p.n_rows; ++r)
      for (int64_t t = 0; t < p.n_tokens; t += r % 2 + 4) compare(r, 1, t, 1);
    for (int64_t rows = 1; rows <= 9; ++rows)
      for (int64_t tokens = 1; tokens <= 9; ++tokens) compare((rows + tokens) % 9, rows, rows * tokens % 50, tokens);
    for (const int64_t tokens : {31, 32, 33, 40}) compare(2, 17, 70 - tokens, tokens);
    CHECK(different == 0);
  }
}

TEST_CASE("kernels: bfloat16 products carry infinities and NaN to the sum, and only to their own") {
  for (const KernelTable* table : tables_with_products()) {
    CAPTURE(std::string(table->isa));
    for (const int64_t at : {0, 31, 32, 40}) {
      Problem p(41, 5, 6, 8);
      p.w[static_cast<size_t>(2 * p.row_length + at)] = 0x7fc0;
      p.x[4][static_cast<size_t>(at)] = 0xff80;
      const std::vector<float> y = p.dot(table->dot_bf16[kBF16], 0, 5, 0, 6);
      for (int64_t t = 0; t < 6; ++t)
        for (int64_t r = 0; r < 5; ++r) {
          const float v = y[static_cast<size_t>(t * 5 + r)];
          CHECK(std::isnan(v) == (r == 2));
          if (r != 2) CHECK(std::isinf(v) == (t == 4));
        }
    }
  }
}

TEST_CASE("row kernels: bfloat16 activations have the bits of f32_to_bf16 at every length") {
  Rng rng(79);
  std::vector<float> x;
  for (int i = 0; i < 8192; ++i) x.push_back(float_from_bits(rng.next_u32()));  // every exponent, NaN and infinity
  for (uint32_t h = 0; h < 65536; h += 5)  // numbers, the middle between two of them, and both neighbours of that
    for (const uint32_t step : {0u, 0x7fffu, 0x8000u, 0x8001u}) x.push_back(float_from_bits((h << 16) + step));
  for (const uint32_t bits : {0x7f800001u, 0xff80ffffu, 0x7fffffffu, 0x7f7fffffu, 1u, 0x8000u, 0x8001u})
    x.push_back(float_from_bits(bits));
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    std::vector<uint16_t> h(x.size());
    k->encode_bf16(x.data(), h.data(), static_cast<int64_t>(x.size()));
    int different = 0;
    for (size_t i = 0; i < x.size(); ++i) different += h[i] != f32_to_bf16(x[i]);
    CHECK(different == 0);
    for (size_t n = 1; n <= 70; ++n) {
      const std::unique_ptr<float[]> in(new float[n]);
      std::memcpy(in.get(), x.data(), n * sizeof(float));
      std::vector<uint16_t> out(n + 1, 0xabcd);
      k->encode_bf16(in.get(), out.data(), static_cast<int64_t>(n));
      CHECK(std::memcmp(out.data(), h.data(), n * sizeof(uint16_t)) == 0);
      CHECK(out.back() == 0xabcd);
    }
  }
}

TEST_SUITE_END();

}  // namespace moe::cpu

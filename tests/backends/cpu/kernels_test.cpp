// Every instruction set this processor can run × every storage format: dot products, transposed products and decoding against
// double precision over decoded weights. Inputs lie in heap blocks of exactly their size, outputs between NaN canaries.
#include "backends/cpu/kernels.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/dispatch.h"
#include "core/half.h"
#include "core/isa.h"
#include "core/rng.h"

namespace moe::cpu {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<const KernelTable*> runnable_tables() {
  const CpuFeatures cpu = detect_cpu();
  std::vector<const KernelTable*> tables;
  for (const Isa isa : supported_isas(cpu)) {
    Result<const KernelTable*> table = kernels_for(isa, cpu);
    REQUIRE_MESSAGE(table.ok(), table.status().message());
    tables.push_back(*table);
  }
  return tables;
}

// A heap block without slack, so that the sanitizer sees the first byte beyond it.
template <class T>
std::unique_ptr<T[]> exact(const std::vector<T>& v) {
  std::unique_ptr<T[]> copy(new T[v.size()]);
  std::memcpy(copy.get(), v.data(), v.size() * sizeof(T));
  return copy;
}

// Where a block keeps its f16 numbers; random bits there could be NaN or huge. MXFP4 keeps an exponent instead.
struct HalfFields {
  DType dtype;
  std::vector<size_t> offsets;
};
const std::vector<HalfFields> kHalfFields = {
    {DType::kQ8_0, {0}},    {DType::kQ4_0, {0}},      {DType::kQ4_1, {0, 2}}, {DType::kQ5_0, {0}},
    {DType::kQ5_1, {0, 2}}, {DType::kQ2_K, {80, 82}}, {DType::kQ3_K, {108}},  {DType::kQ4_K, {0, 2}},
    {DType::kQ5_K, {0, 2}}, {DType::kQ6_K, {208}},    {DType::kIQ4_NL, {0}},
};

// Blocks of random bits, which reach every code a file may hold (Q8_0's −128 among them), with scales of either sign.
std::vector<uint8_t> random_weights(DType t, int64_t n, Rng& rng) {
  const DTypeTraits& format = traits(t);
  const int64_t n_blocks = n / format.block_elements;
  std::vector<uint8_t> bytes(static_cast<size_t>(n_blocks) * format.block_bytes);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(rng.next_u32());
  for (int64_t i = 0; i < n_blocks; ++i) {
    uint8_t* block = bytes.data() + static_cast<size_t>(i) * format.block_bytes;
    const float value = rng.normal();
    if (t == DType::kF32) std::memcpy(block, &value, 4);
    const uint16_t h = t == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
    if (t == DType::kF16 || t == DType::kBF16) std::memcpy(block, &h, 2);
    if (t == DType::kMXFP4) block[0] = static_cast<uint8_t>(120 + rng.below(12));
    for (const HalfFields& fields : kHalfFields) {
      if (fields.dtype != t) continue;
      for (const size_t offset : fields.offsets) {
        const uint16_t scale = f32_to_f16(0.01f * rng.normal());
        std::memcpy(block + offset, &scale, 2);
      }
    }
  }
  return bytes;
}

std::vector<float> random_floats(int64_t n, Rng& rng) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = rng.normal();
  return x;
}

// A weight matrix, tokens in both activation types, and what they multiply to.
struct Problem {
  DType dtype;
  int64_t n_in, n_rows, n_tokens;
  size_t row_bytes;
  std::unique_ptr<uint8_t[]> w;                // (n_rows, row_bytes)
  std::vector<float> decoded;                  // (n_rows, n_in)
  std::vector<std::unique_ptr<float[]>> x;     // (n_tokens) of (n_in)
  std::vector<std::unique_ptr<BlockA8[]>> a8;  // (n_tokens) of (n_in / 32)

  Problem(DType t, int64_t in, int64_t rows, int64_t tokens, uint64_t seed)
      : dtype(t), n_in(in), n_rows(rows), n_tokens(tokens) {
    Rng rng(seed, static_cast<uint64_t>(t));
    const std::vector<uint8_t> bytes = random_weights(t, rows * in, rng);
    row_bytes = dtype_bytes(t, in);
    w = exact(bytes);
    decoded.resize(static_cast<size_t>(rows * in));
    traits(t).decode(w.get(), decoded.data(), rows * in);
    for (int64_t i = 0; i < tokens; ++i) {
      x.push_back(exact(random_floats(in, rng)));
      if (in % 32 != 0) continue;
      a8.emplace_back(new BlockA8[static_cast<size_t>(in / 32)]);
      kKernelsScalar.quantize_a8(x.back().get(), a8.back().get(), in);
    }
  }

  double activation(int64_t token, int64_t i, bool quantised) const {
    if (!quantised) return x[token][i];
    const BlockA8& b = a8[token][i / 32];
    return static_cast<double>(b.scale) * b.q[i % 32];
  }

  struct Expected {
    double value;
    double bound;  // largest |w| of the row · Σ|x|: what the rounding errors of a sum are measured by
  };
  Expected expected(int64_t row, int64_t token, bool quantised) const {
    const float* d = decoded.data() + row * n_in;
    double value = 0, largest = 0, sum = 0;
    for (int64_t i = 0; i < n_in; ++i) {
      const double a = activation(token, i, quantised);
      value += d[i] * a;
      sum += std::fabs(a);
      largest = std::fmax(largest, std::fabs(d[i]));
    }
    return {value, largest * sum};
  }
};

// Results of rows row .. row + n_rows against tokens token .. token + n_tokens, (n_tokens, n_rows).
std::vector<float> run_dot(DotFn fn, const Problem& p, bool quantised, int64_t row, int64_t n_rows, int64_t token,
                           int64_t n_tokens) {
  const int64_t stride = n_rows + 2;
  std::vector<float> y(static_cast<size_t>(n_tokens * stride), kNaN);
  std::vector<const void*> xs;
  std::vector<float*> ys;
  for (int64_t t = 0; t < n_tokens; ++t) {
    xs.push_back(quantised ? static_cast<const void*>(p.a8[token + t].get()) : p.x[token + t].get());
    ys.push_back(y.data() + t * stride + 1);
  }
  fn(DotArgs{p.w.get() + static_cast<size_t>(row) * p.row_bytes, p.row_bytes, p.n_in, n_rows, xs.data(), n_tokens, ys.data()});
  std::vector<float> results;
  bool canaries = true;
  for (int64_t t = 0; t < n_tokens; ++t) {
    canaries = canaries && std::isnan(ys[t][-1]) && std::isnan(ys[t][n_rows]);
    results.insert(results.end(), ys[t], ys[t] + n_rows);
  }
  CHECK_MESSAGE(canaries, "wrote beyond its rows");
  return results;
}

void check_dot(DotFn fn, const Problem& p, bool quantised) {
  const std::vector<float> y = run_dot(fn, p, quantised, 0, p.n_rows, 0, p.n_tokens);
  const double tolerance = 0x1p-24 * (static_cast<double>(p.n_in) / 8 + 16);
  double worst = 0, error2 = 0, value2 = 0;
  for (int64_t t = 0; t < p.n_tokens; ++t) {
    for (int64_t r = 0; r < p.n_rows; ++r) {
      const Problem::Expected e = p.expected(r, t, quantised);
      const double error = std::fabs(static_cast<double>(y[t * p.n_rows + r]) - e.value);
      worst = std::fmax(worst, error == error ? error / e.bound : HUGE_VAL);
      error2 += error * error;
      value2 += e.value * e.value;
    }
  }
  CAPTURE(p.n_in);
  CAPTURE(p.n_rows);
  CAPTURE(p.n_tokens);
  CHECK(worst <= tolerance);
  CHECK(error2 <= 1e-10 * value2);
}

std::vector<int64_t> row_lengths(const DTypeTraits& format) {
  if (format.block_elements == 1) return {1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 257};
  if (format.block_elements == 32) return {32, 64, 96, 224, 256, 288, 544};
  return {256, 512, 1280};
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("kernels: each supported instruction set has a complete table of its own") {
  const CpuFeatures cpu = detect_cpu();
  for (const Isa isa : supported_isas(cpu)) {
    const Result<const KernelTable*> table = kernels_for(isa, cpu);
    REQUIRE_MESSAGE(table.ok(), table.status().message());
    CHECK(std::string((*table)->isa) == isa_name(isa));
    for (const DTypeTraits& format : all_dtypes()) {
      CAPTURE(std::string(format.name));
      const int i = static_cast<int>(format.dtype);
      CHECK(((*table)->dot_f32[i] != nullptr) == format.is_weight);
      CHECK(((*table)->accumulate[i] != nullptr) == format.is_weight);
      CHECK(((*table)->decode[i] != nullptr) == format.is_weight);
      CHECK(((*table)->dot_a8[i] != nullptr || !format.is_weight || format.block_elements == 1));
    }
  }
}

TEST_CASE("kernels: an instruction set the processor lacks is refused by name") {
  const Result<const KernelTable*> table = kernels_for(Isa::kAvx512, CpuFeatures{});
  REQUIRE(!table.ok());
  CHECK(table.status().code() == StatusCode::kUnsupported);
  CHECK(table.status().message().find("avx512") != std::string::npos);
}

TEST_CASE("kernels: dot products equal double precision in every format and shape") {
  for (const KernelTable* table : runnable_tables()) {
    CAPTURE(std::string(table->isa));
    for (const DTypeTraits& format : all_dtypes()) {
      if (!format.is_weight) continue;
      CAPTURE(std::string(format.name));
      const int i = static_cast<int>(format.dtype);
      uint64_t seed = 1;
      for (const int64_t n_in : row_lengths(format)) {
        const Problem p(format.dtype, n_in, 1 + static_cast<int64_t>(seed * 7 % 23), 1 + static_cast<int64_t>(seed * 5 % 9),
                        seed);
        check_dot(table->dot_f32[i], p, false);
        if (table->dot_a8[i] != nullptr && n_in % 32 == 0) check_dot(table->dot_a8[i], p, true);
        ++seed;
      }
    }
  }
}

TEST_CASE("kernels: a dot product has the same bits in a call of any size") {
  for (const KernelTable* table : runnable_tables()) {
    CAPTURE(std::string(table->isa));
    for (const DTypeTraits& format : all_dtypes()) {
      if (!format.is_weight) continue;
      CAPTURE(std::string(format.name));
      const Problem p(format.dtype, format.block_elements == 256 ? 512 : 352, 19, 70, 3);
      for (const bool quantised : {false, true}) {
        CAPTURE(quantised);
        const int i = static_cast<int>(format.dtype);
        const DotFn fn = quantised ? table->dot_a8[i] : table->dot_f32[i];
        if (fn == nullptr) continue;
        const std::vector<float> all = run_dot(fn, p, quantised, 0, p.n_rows, 0, p.n_tokens);  // (70, 19)
        int different = 0;
        for (int64_t r = 0; r < p.n_rows; ++r) {
          for (int64_t t = 0; t < p.n_tokens; t += r % 2 + 4) {
            different += float_bits(run_dot(fn, p, quantised, r, 1, t, 1)[0]) != float_bits(all[t * p.n_rows + r]);
          }
        }
        CHECK(different == 0);
        for (int64_t rows = 1; rows <= 9; ++rows) {
          for (int64_t tokens = 1; tokens <= 9; ++tokens) {
            const int64_t row = (rows + tokens) % 9;
            const int64_t token = rows * tokens % 50;
            const std::vector<float> some = run_dot(fn, p, quantised, row, rows, token, tokens);
            for (int64_t t = 0; t < tokens; ++t) {
              for (int64_t r = 0; r < rows; ++r) {
                different += float_bits(some[t * rows + r]) != float_bits(all[(token + t) * p.n_rows + row + r]);
              }
            }
          }
        }
        CHECK(different == 0);
      }
    }
  }
}

TEST_CASE("kernels: int8 dot products stay exact at the largest codes") {
  // All bits of the codes equal and all activations ±127: the largest sums any format can reach.
  for (const KernelTable* table : runnable_tables()) {
    CAPTURE(std::string(table->isa));
    for (const DTypeTraits& format : all_dtypes()) {
      const DotFn fn = table->dot_a8[static_cast<int>(format.dtype)];
      if (fn == nullptr) continue;
      CAPTURE(std::string(format.name));
      for (const int fill : {0x00, 0x7f, 0x80, 0x88, 0xff}) {
        for (const int8_t q : {int8_t{127}, int8_t{-127}}) {
          Problem p(format.dtype, 256, 3, 2, 9);
          Rng rng(1);
          for (int64_t b = 0; b < 3 * 256 / format.block_elements; ++b) {
            const std::vector<uint8_t> header = random_weights(format.dtype, format.block_elements, rng);
            uint8_t* block = p.w.get() + static_cast<size_t>(b) * format.block_bytes;
            std::memset(block, fill, format.block_bytes);
            if (format.dtype == DType::kMXFP4) block[0] = header[0];
            for (const HalfFields& fields : kHalfFields) {
              if (fields.dtype != format.dtype) continue;
              for (const size_t offset : fields.offsets) std::memcpy(block + offset, header.data() + offset, 2);
            }
          }
          traits(format.dtype).decode(p.w.get(), p.decoded.data(), 3 * 256);
          for (auto& row : p.a8) {
            for (int b = 0; b < 8; ++b) {
              std::memset(row[b].q, q, 32);
              row[b].half[0] = row[b].half[1] = 16 * q;
              row[b].sum = 32 * q;
            }
          }
          CAPTURE(fill);
          check_dot(fn, p, true);
        }
      }
    }
  }
}

TEST_CASE("kernels: transposed products equal double precision in every format") {
  for (const KernelTable* table : runnable_tables()) {
    CAPTURE(std::string(table->isa));
    for (const DTypeTraits& format : all_dtypes()) {
      if (!format.is_weight) continue;
      CAPTURE(std::string(format.name));
      for (const int64_t n_in : row_lengths(format)) {
        CAPTURE(n_in);
        const Problem p(format.dtype, n_in, 13, 0, 5);
        Rng rng(6);
        const std::vector<float> start = random_floats(n_in, rng);
        const auto a = exact(random_floats(p.n_rows, rng));
        std::vector<float> y(static_cast<size_t>(n_in + 2), kNaN);
        std::copy(start.begin(), start.end(), y.begin() + 1);
        table->accumulate[static_cast<int>(format.dtype)]({p.w.get(), p.row_bytes, n_in, p.n_rows, a.get(), y.data() + 1});
        double worst = 0;
        for (int64_t i = 0; i < n_in; ++i) {
          double value = start[i], bound = std::fabs(start[i]);
          for (int64_t r = 0; r < p.n_rows; ++r) {
            value += static_cast<double>(a[r]) * p.decoded[r * n_in + i];
            bound += std::fabs(static_cast<double>(a[r]) * p.decoded[r * n_in + i]);
          }
          worst = std::fmax(worst, std::fabs(y[i + 1] - value) / bound);
        }
        CHECK(worst <= 16 * 0x1p-24);
        CHECK(std::isnan(y.front()));
        CHECK(std::isnan(y.back()));
      }
    }
  }
}

TEST_CASE("kernels: decoded rows have the bits of the format's decoder") {
  for (const KernelTable* table : runnable_tables()) {
    CAPTURE(std::string(table->isa));
    for (const DTypeTraits& format : all_dtypes()) {
      if (!format.is_weight) continue;
      CAPTURE(std::string(format.name));
      for (const int64_t n_in : row_lengths(format)) {
        const Problem p(format.dtype, n_in, 1, 0, 8);
        std::vector<float> out(static_cast<size_t>(n_in + 2), kNaN);
        table->decode[static_cast<int>(format.dtype)](p.w.get(), out.data() + 1, n_in);
        CHECK(std::memcmp(out.data() + 1, p.decoded.data(), static_cast<size_t>(n_in) * sizeof(float)) == 0);
        CHECK(std::isnan(out.front()));
        CHECK(std::isnan(out.back()));
      }
    }
  }
}

TEST_SUITE_END();

}  // namespace moe::cpu

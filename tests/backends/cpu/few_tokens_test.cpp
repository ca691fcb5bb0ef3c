// Calls with few tokens take another way through the weights than calls with many: both must give the same bits, also for rows
// longer than what is read at once, rows that lie apart and lengths that end within a chunk.
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "backends/cpu/dispatch.h"
#include "backends/cpu/kernels.h"
#include "core/isa.h"
#include "core/rng.h"

namespace moe::cpu {
namespace {

constexpr int64_t kRows = 21;
constexpr int64_t kTokens = 11;

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

std::vector<float> random_floats(int64_t n, Rng& rng) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = rng.normal();
  return x;
}

// Rows with a gap after each but the last, in a heap block of exactly their size.
struct Problem {
  int64_t n_in;
  size_t row_bytes, stride;
  std::unique_ptr<uint8_t[]> w;
  std::vector<std::unique_ptr<BlockA8[]>> x;

  Problem(DType t, int64_t n, size_t gap) : n_in(n), row_bytes(dtype_bytes(t, n)), stride(row_bytes + gap) {
    Rng rng(7, static_cast<uint64_t>(t));
    w.reset(new uint8_t[(kRows - 1) * stride + row_bytes]());
    for (int64_t r = 0; r < kRows; ++r) {
      traits(t).encode(random_floats(n, rng).data(), nullptr, w.get() + static_cast<size_t>(r) * stride, n);
    }
    for (int64_t i = 0; i < kTokens; ++i) {
      x.emplace_back(new BlockA8[static_cast<size_t>(n / 32)]);
      kKernelsScalar.quantize_a8(random_floats(n, rng).data(), x.back().get(), n);
    }
  }

  // (tokens, rows) of rows row .. row + n_rows and tokens token .. token + n_tokens
  std::vector<float> dot(DotFn fn, int64_t row, int64_t n_rows, int64_t token, int64_t n_tokens) const {
    std::vector<float> y(static_cast<size_t>(n_rows * n_tokens));
    const void* in[kTokens];
    float* out[kTokens];
    for (int64_t t = 0; t < n_tokens; ++t) in[t] = x[token + t].get(), out[t] = y.data() + t * n_rows;
    fn({w.get() + static_cast<size_t>(row) * stride, stride, n_in, n_rows, in, n_tokens, out});
    return y;
  }
};

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("kernels: few tokens have the bits of many for long rows, rows that lie apart and short ends") {
  for (const KernelTable* table : runnable_tables()) {
    CAPTURE(table->isa);
    for (const DTypeTraits& format : all_dtypes()) {
      const DotFn fn = table->dot_a8[static_cast<int>(format.dtype)];
      if (fn == nullptr) continue;
      CAPTURE(format.name);
      const int64_t end = format.block_elements == 256 ? 0 : 32;
      for (const int64_t n_in : {256 + end, 4352 + 3 * end, 8448 + end}) {
        CAPTURE(n_in);
        const Problem p(format.dtype, n_in, n_in < 1000 ? 0 : 2 * format.block_bytes);
        const std::vector<float> all = p.dot(fn, 0, kRows, 0, kTokens);
        for (int64_t tokens = 1; tokens <= 5; ++tokens) {
          const int64_t row = tokens % 3, n_rows = kRows - 4 * (tokens % 2) - row;
          const std::vector<float> some = p.dot(fn, row, n_rows, tokens, tokens);
          int different = 0;
          for (int64_t t = 0; t < tokens; ++t) {
            different += std::memcmp(&some[t * n_rows], &all[(tokens + t) * kRows + row], n_rows * sizeof(float)) != 0;
          }
          CHECK(different == 0);
        }
      }
    }
  }
}

TEST_CASE("kernels: every exponent of mxfp4 is a scale, the subnormal ones too") {
  for (const KernelTable* table : runnable_tables()) {
    CAPTURE(table->isa);
    const DotFn fn = table->dot_a8[static_cast<int>(DType::kMXFP4)];
    for (const int64_t n_tokens : {1, 9}) {
      int different = 0;
      for (int e = 0; e < 256; ++e) {
        uint8_t block[17] = {static_cast<uint8_t>(e), 1};
        float decoded[32];
        traits(DType::kMXFP4).decode(block, decoded, 32);
        BlockA8 x{};
        x.scale = 1, x.sum = 1, x.half[0] = 1, x.q[0] = 1;
        const void* in[9];
        float y[9];
        float* out[9];
        for (int64_t t = 0; t < n_tokens; ++t) in[t] = &x, out[t] = y + t;
        fn({block, sizeof block, 32, 1, in, n_tokens, out});
        different += std::memcmp(y + n_tokens - 1, decoded, sizeof(float)) != 0;
      }
      CHECK(different == 0);
    }
  }
}

TEST_SUITE_END();

}  // namespace moe::cpu

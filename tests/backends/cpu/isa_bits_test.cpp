// Where two instruction sets promise the same bits, not only the same numbers: int8 dot products in all that fuse, whose
// integer sums are exact and whose float steps are the same; and everything in the ARM ones, which share the register wrapper.
// A model evaluated on one such processor gives the logits of the other.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "backends/cpu/dispatch.h"
#include "backends/cpu/kernels.h"
#include "core/isa.h"
#include "core/rng.h"

namespace moe::cpu {
namespace {

constexpr int64_t kRows = 21;
constexpr int64_t kTokens = 7;

// The tables this processor can run from first to last in the order of the enum, scalar (which rounds twice) left out.
std::vector<const KernelTable*> fused_tables(Isa first, Isa last) {
  const CpuFeatures cpu = detect_cpu();
  std::vector<const KernelTable*> tables;
  for (const Isa isa : supported_isas(cpu)) {
    if (isa < first || isa > last) continue;
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

// Random rows in a storage format and random tokens.
struct Problem {
  int64_t n_in;
  DType dtype;
  size_t row_bytes;
  std::vector<uint8_t> w;   // (kRows, row_bytes)
  std::vector<float> x;     // (kTokens, n_in)
  std::vector<BlockA8> a8;  // (kTokens, n_in / 32)

  Problem(DType t, int64_t n, uint64_t seed) : n_in(n), dtype(t), row_bytes(dtype_bytes(t, n)) {
    Rng rng(seed, static_cast<uint64_t>(t));
    w.resize(static_cast<size_t>(kRows) * row_bytes);
    traits(t).encode(random_floats(kRows * n, rng).data(), nullptr, w.data(), kRows * n);
    x = random_floats(kTokens * n, rng);
    a8.resize(static_cast<size_t>(kTokens * n / 32));
    for (int64_t i = 0; i < kTokens; ++i) kKernelsScalar.quantize_a8(x.data() + i * n, a8.data() + i * n / 32, n);
  }

  // (kTokens, kRows)
  std::vector<float> dot(DotFn fn, bool quantised) const {
    std::vector<float> y(static_cast<size_t>(kTokens * kRows));
    const void* in[kTokens];
    float* out[kTokens];
    for (int64_t t = 0; t < kTokens; ++t) {
      in[t] = quantised ? static_cast<const void*>(a8.data() + t * n_in / 32) : x.data() + t * n_in;
      out[t] = y.data() + t * kRows;
    }
    fn({w.data(), row_bytes, n_in, kRows, in, kTokens, out});
    return y;
  }

  std::vector<float> accumulate(AccumulateFn fn) const {
    std::vector<float> y(static_cast<size_t>(n_in));
    fn({w.data(), row_bytes, n_in, kRows, x.data(), y.data()});
    return y;
  }
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Calls check(table, reference, problem) for every table after the first, the reference, and every storage format.
template <class Check>
void compare_tables(const std::vector<const KernelTable*>& tables, Check check) {
  for (size_t i = 1; i < tables.size(); ++i) {
    CAPTURE(tables[i]->isa);
    CAPTURE(tables[0]->isa);
    for (const DTypeTraits& format : all_dtypes()) {
      if (!format.is_weight) continue;
      CAPTURE(format.name);
      check(*tables[i], *tables[0], Problem(format.dtype, format.block_elements == 256 ? 768 : 480, i));
    }
  }
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("kernels: int8 dot products have the same bits in every instruction set with a fused multiply-add") {
  compare_tables(fused_tables(Isa::kAvx2, Isa::kNeonI8mm), [](const KernelTable& a, const KernelTable& b, const Problem& p) {
    const int i = static_cast<int>(p.dtype);
    CHECK((a.dot_a8[i] == nullptr) == (b.dot_a8[i] == nullptr));
    if (a.dot_a8[i] != nullptr) CHECK(same_bits(p.dot(a.dot_a8[i], true), p.dot(b.dot_a8[i], true)));
  });
}

TEST_CASE("kernels: the ARM instruction sets have the same bits") {
  const std::vector<const KernelTable*> tables = fused_tables(Isa::kNeon, Isa::kNeonI8mm);
  compare_tables(tables, [](const KernelTable& a, const KernelTable& b, const Problem& p) {
    const int i = static_cast<int>(p.dtype);
    CHECK(same_bits(p.dot(a.dot_f32[i], false), p.dot(b.dot_f32[i], false)));
    CHECK(same_bits(p.accumulate(a.accumulate[i]), p.accumulate(b.accumulate[i])));
  });
}

TEST_SUITE_END();

}  // namespace moe::cpu

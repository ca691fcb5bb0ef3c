// Calls int8 dot products of every instruction set this processor has, each between two writes to stdout, so that
// count_plugin.c can tell what one call costs. A line: "<isa> <format> <tokens> <multiply-adds of the call>".
#include <unistd.h>

#include <cstdio>
#include <vector>

#include "backends/cpu/dispatch.h"
#include "backends/cpu/kernels.h"
#include "core/isa.h"
#include "core/rng.h"

namespace {

constexpr int64_t kIn = 2048;  // elements of a row
constexpr int64_t kRows = 64;
constexpr int64_t kMaxTokens = 64;

void say(const char* line, int length) {
  if (write(STDOUT_FILENO, line, static_cast<size_t>(length)) != length) _exit(1);
}

struct Problem {
  std::vector<moe::cpu::BlockA8> x;  // (kMaxTokens, kIn / 32)
  std::vector<float> y;              // (kMaxTokens, kRows)
  std::vector<const void*> x_rows;
  std::vector<float*> y_rows;

  explicit Problem(const moe::cpu::KernelTable& table) : x(kMaxTokens * kIn / 32), y(kMaxTokens * kRows) {
    moe::Rng rng(1);
    std::vector<float> row(kIn);
    for (int64_t t = 0; t < kMaxTokens; ++t) {
      for (float& v : row) v = rng.normal();
      table.quantize_a8(row.data(), x.data() + t * kIn / 32, kIn);
      x_rows.push_back(x.data() + t * kIn / 32);
      y_rows.push_back(y.data() + t * kRows);
    }
  }
};

void call(const moe::cpu::KernelTable& table, const moe::DTypeTraits& format, Problem& p, int64_t n_tokens) {
  const size_t row_bytes = moe::dtype_bytes(format.dtype, kIn);
  const std::vector<uint8_t> w(kRows * row_bytes, 0x2b);
  const moe::cpu::DotArgs args{w.data(), row_bytes, kIn, kRows, p.x_rows.data(), n_tokens, p.y_rows.data()};
  char line[80];
  const int length = std::snprintf(line, sizeof line, "%s %s %lld %lld\n", table.isa, format.name,
                                   static_cast<long long>(n_tokens), static_cast<long long>(n_tokens * kRows * kIn));
  const moe::cpu::DotFn dot = table.dot_a8[static_cast<int>(format.dtype)];
  say("\n", 1);
  dot(args);
  say(line, length);
}

}  // namespace

int main() {
  const moe::CpuFeatures cpu = moe::detect_cpu();
  for (const moe::Isa isa : moe::supported_isas(cpu)) {
    if (isa == moe::Isa::kScalar) continue;
    const moe::Result<const moe::cpu::KernelTable*> table = moe::cpu::kernels_for(isa, cpu);
    if (!table.ok()) return 1;
    Problem p(**table);
    for (const moe::DTypeTraits& format : moe::all_dtypes()) {
      if (!format.is_weight || (*table)->dot_a8[static_cast<int>(format.dtype)] == nullptr) continue;
      for (const int64_t n_tokens : {1, 2, 4, 64}) call(**table, format, p, n_tokens);
    }
  }
}

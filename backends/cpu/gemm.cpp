#include "backends/cpu/gemm.h"

#include <algorithm>
#include <cmath>

#include "core/arena.h"
#include "core/check.h"

namespace moe::cpu {
namespace {

// A product is cut along the longer side of C into strips of equal cost.
struct Strips {
  bool of_rows;
  int64_t width;  // rows or columns of a strip; the last may have fewer
  int64_t count;
  double cost;  // multiply-adds of a whole strip
};

Strips strips_of(const KernelTable& k, const GemmArgs& g) {
  if (g.m <= 0 || g.n <= 0) return {false, 1, 0, 0};
  const bool of_rows = g.m > g.n;
  const int64_t width = of_rows ? k.gemm_rows : k.gemm_cols;
  const int64_t length = of_rows ? g.m : g.n, across = of_rows ? g.n : g.m;
  return {of_rows, width, (length + width - 1) / width,
          static_cast<double>(width) * static_cast<double>(across) * static_cast<double>(std::max<int64_t>(g.k, 1))};
}

// `first` elements into op(X), along its rows or its columns.
const void* advanced(const void* x, DType type, int64_t stride, int64_t first) {
  return static_cast<const std::byte*>(x) + first * stride * static_cast<int64_t>(dtype_bytes(type, 1));
}

GemmArgs piece(const GemmArgs& g, DType type, const Strips& s, int64_t begin, int64_t end) {
  GemmArgs p = g;
  const int64_t first = begin * s.width;
  if (s.of_rows) {
    p.m = std::min(end * s.width, g.m) - first;
    p.a = advanced(g.a, type, g.transpose_a ? 1 : g.lda, first);
    p.c = g.c + first * g.ldc;
  } else {
    p.n = std::min(end * s.width, g.n) - first;
    p.b = advanced(g.b, type, g.transpose_b ? g.ldb : 1, first);
    p.c = g.c + first;
  }
  return p;
}

}  // namespace

size_t gemm_scratch_bytes(const KernelTable& kernels, int n_threads) {
  return align_up(kernels.gemm_scratch) * static_cast<size_t>(n_threads);
}

void gemm_part(const KernelTable& kernels, DType type, std::span<const GemmArgs> products, int thread, int n_threads,
               void* scratch) {
  MOE_CHECK(type == DType::kF32 || type == DType::kBF16);
  const GemmFn run = type == DType::kF32 ? kernels.gemm_f32 : kernels.gemm_bf16;
  double total = 0;
  for (const GemmArgs& g : products) {
    const Strips s = strips_of(kernels, g);
    total += s.cost * static_cast<double>(s.count);
  }
  // Thread t owns the strips that begin in [t, t + 1) of n_threads equal shares of the total.
  const double share = total / n_threads;
  double before = 0;
  for (const GemmArgs& g : products) {
    const Strips s = strips_of(kernels, g);
    if (s.count == 0) continue;
    const auto first_of = [&](int t) {
      if (t >= n_threads) return s.count;
      return static_cast<int64_t>(std::clamp(std::ceil((share * t - before) / s.cost), 0.0, static_cast<double>(s.count)));
    };
    const int64_t begin = first_of(thread), end = first_of(thread + 1);
    before += s.cost * static_cast<double>(s.count);
    if (begin >= end) continue;
    GemmArgs p = piece(g, type, s, begin, end);
    p.scratch = scratch;
    run(p);
  }
}

void gemm(const KernelTable& kernels, DType type, std::span<const GemmArgs> products, ThreadPool& pool, void* scratch) {
  auto share = [&](int thread) {
    void* own = static_cast<std::byte*>(scratch) + gemm_scratch_bytes(kernels, thread);
    gemm_part(kernels, type, products, thread, pool.size(), own);
  };
  pool.run(share);
}

}  // namespace moe::cpu

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

// Leaves out what lies before row or column `first` of a matrix as it is stored.
void skip_rows(const void*& x, const int32_t*& order, DType type, int64_t stride, int64_t first) {
  if (order)
    order += first;
  else
    x = static_cast<const std::byte*>(x) + first * stride * static_cast<int64_t>(dtype_bytes(type, 1));
}
void skip_columns(const void*& x, DType type, int64_t first) {
  x = static_cast<const std::byte*>(x) + first * static_cast<int64_t>(dtype_bytes(type, 1));
}

GemmArgs piece(const GemmArgs& g, DType type, const Strips& s, int64_t begin, int64_t end) {
  const int64_t length = s.of_rows ? g.m : g.n;
  const Range cut{std::min(begin * s.width, length), std::min(end * s.width, length)};
  return s.of_rows ? gemm_block(g, type, cut, {0, g.n}) : gemm_block(g, type, {0, g.m}, cut);
}

// Thread t owns the strips that begin in [t, t + 1) of n_threads equal shares of `total`, of which `before` lies before them.
Range strips_of_thread(const Strips& s, double before, double total, int thread, int n_threads) {
  const double share = total / n_threads;
  const auto first_of = [&](int t) {
    if (t >= n_threads || s.count == 0) return s.count;
    return static_cast<int64_t>(std::clamp(std::ceil((share * t - before) / s.cost), 0.0, static_cast<double>(s.count)));
  };
  return {first_of(thread), first_of(thread + 1)};
}

}  // namespace

size_t gemm_scratch_bytes(const KernelTable& kernels, int n_threads) {
  return align_up(kernels.gemm_scratch) * static_cast<size_t>(n_threads);
}

GemmArgs gemm_block(const GemmArgs& g, DType type, Range rows, Range columns) {
  GemmArgs p = g;
  p.m = rows.end - rows.begin, p.n = columns.end - columns.begin;
  g.transpose_a ? skip_columns(p.a, type, rows.begin) : skip_rows(p.a, p.a_rows, type, g.lda, rows.begin);
  g.transpose_b ? skip_rows(p.b, p.b_rows, type, g.ldb, columns.begin) : skip_columns(p.b, type, columns.begin);
  p.c += columns.begin;
  if (g.c_rows)
    p.c_rows += rows.begin;
  else
    p.c += rows.begin * g.ldc;
  return p;
}

GemmArgs gemm_piece(const KernelTable& kernels, DType type, const GemmArgs& g, int thread, int n_threads) {
  const Strips s = strips_of(kernels, g);
  const Range mine = strips_of_thread(s, 0, s.cost * static_cast<double>(s.count), thread, n_threads);
  return piece(g, type, s, mine.begin, mine.end);
}

void gemm_alone(const KernelTable& kernels, DType type, const GemmArgs& product) {
  MOE_CHECK(type == DType::kF32 || type == DType::kBF16);
  (type == DType::kF32 ? kernels.gemm_f32 : kernels.gemm_bf16)(product);
}

void gemm_part(const KernelTable& kernels, DType type, std::span<const GemmArgs> products, int thread, int n_threads,
               void* scratch) {
  double total = 0;
  for (const GemmArgs& g : products) {
    const Strips s = strips_of(kernels, g);
    total += s.cost * static_cast<double>(s.count);
  }
  double before = 0;
  GemmArgs pending{};
  const auto run_pending = [&](const GemmArgs* next) {
    pending.next = next;
    if (pending.scratch) gemm_alone(kernels, type, pending);
  };
  for (const GemmArgs& g : products) {
    const Strips s = strips_of(kernels, g);
    const Range mine = strips_of_thread(s, before, total, thread, n_threads);
    before += s.cost * static_cast<double>(s.count);
    if (mine.begin >= mine.end) continue;
    GemmArgs p = piece(g, type, s, mine.begin, mine.end);
    p.scratch = scratch;
    run_pending(&p);
    pending = p;
  }
  run_pending(nullptr);
}

void gemm(const KernelTable& kernels, DType type, std::span<const GemmArgs> products, ThreadPool& pool, void* scratch) {
  auto share = [&](int thread) {
    void* own = static_cast<std::byte*>(scratch) + gemm_scratch_bytes(kernels, thread);
    gemm_part(kernels, type, products, thread, pool.size(), own);
  };
  pool.run(share);
}

}  // namespace moe::cpu

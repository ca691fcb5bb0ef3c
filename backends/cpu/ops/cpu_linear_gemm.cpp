// Dense products of training, on GEMMs: linear where throughput is asked for, and its reverse. A part makes its own rows or
// columns of the result from beginning to end, so that what comes behind the product (bias, scale, residual) needs no barrier.
#include <algorithm>

#include "backends/cpu/gemm.h"
#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

// A block of decoded weights, or of a product that is scaled before it is added: a quarter of the second-level cache.
constexpr int64_t kBlockRows = 128, kBlockColumns = 512;
constexpr int64_t kDecodeGrain = 256;  // a multiple of every format's block

std::byte* gemm_scratch(const OpContext& c) { return c.scratch.take<std::byte>(c.kernels.gemm_scratch); }

// block(rows, columns) for blocks of a matrix, row by row in each run of columns.
template <class F>
void for_blocks(Range rows, Range columns, F&& block) {
  for (int64_t j = columns.begin; j < columns.end; j += kBlockColumns)
    for (int64_t i = rows.begin; i < rows.end; i += kBlockRows)
      block(Range{i, std::min(i + kBlockRows, rows.end)}, Range{j, std::min(j + kBlockColumns, columns.end)});
}

// The rows and columns of a (m, n) result that a part makes where weights are decoded: parts lie side by side as long as there
// are columns, which nobody else decodes then, and below one another beyond that.
struct Cell {
  Range rows, columns;
};
Cell cell_of(const OpContext& c, int64_t m, int64_t n) {
  const auto across = static_cast<int>(std::min<int64_t>((n + kDecodeGrain - 1) / kDecodeGrain, c.parts));
  const int down = c.parts / across;
  if (c.part >= across * down) return {{0, 0}, {0, 0}};
  return {split_range(m, c.part / across, down), split_range(n, c.part % across, across, kDecodeGrain)};
}

// C = A W, or A Wᵀ with transpose_b, over decoded blocks of W: `whole` but for its B. Each number of C meets its terms in the
// order of an undivided product. Returns the part of C that is made.
GemmArgs multiply_decoded(const OpContext& c, const GemmArgs& whole, const Tensor& w) {
  const Cell mine = cell_of(c, whole.m, whole.n);
  const GemmArgs cell = gemm_block(whole, DType::kF32, mine.rows, {0, 0});
  const Range all_rows = whole.transpose_b ? mine.columns : Range{0, w.shape[0]};
  const Range all_columns = whole.transpose_b ? Range{0, w.shape[1]} : mine.columns;
  const auto decode = c.kernels.decode[static_cast<size_t>(w.dtype)];
  float* block = c.scratch.take<float>(kBlockRows * kBlockColumns);
  if (cell.m > 0) {
    for_blocks(all_rows, all_columns, [&](Range rows, Range columns) {
      const int64_t n = columns.end - columns.begin;
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        const std::byte* row = static_cast<const std::byte*>(w.data) + static_cast<size_t>(r) * w.row_bytes();
        decode(row + dtype_bytes(w.dtype, columns.begin), block + (r - rows.begin) * n, n);
      }
      const Range of_c = whole.transpose_b ? rows : columns, of_k = whole.transpose_b ? columns : rows;
      GemmArgs g = cell;
      g.n = of_c.end - of_c.begin, g.k = of_k.end - of_k.begin;
      g.a = static_cast<const float*>(cell.a) + of_k.begin;
      g.b = block, g.ldb = n;
      g.c = cell.c + of_c.begin;
      g.accumulate = of_k.begin > 0;
      gemm_alone(c.kernels, DType::kF32, g);
    });
  }
  return gemm_block(whole, DType::kF32, mine.rows, mine.columns);
}

// The part of activations times W, or Wᵀ with transpose_b, that this thread makes. `whole` has W as its B.
GemmArgs multiply(const OpContext& c, const GemmArgs& whole, const Tensor& x, const Tensor& w) {
  if (x.dtype != w.dtype) {
    MOE_CHECK(x.dtype == DType::kF32);
    return multiply_decoded(c, whole, w);
  }
  const GemmArgs mine = gemm_piece(c.kernels, x.dtype, whole, c.part, c.parts);
  gemm_alone(c.kernels, x.dtype, mine);
  return mine;
}

// C += scale · op(A) op(B)
void add_scaled(const OpContext& c, DType type, const GemmArgs& product, float scale) {
  float* block = c.scratch.take<float>(kBlockRows * kBlockColumns);
  for_blocks({0, product.m}, {0, product.n}, [&](Range rows, Range columns) {
    const GemmArgs to = gemm_block(product, type, rows, columns);
    GemmArgs g = to;
    g.c = block, g.ldc = g.n, g.accumulate = false;
    gemm_alone(c.kernels, type, g);
    for (int64_t i = 0; i < g.m; ++i) c.kernels.axpy(scale, block + i * g.n, to.c + i * to.ldc, g.n);
  });
}

// grad_bias += scale · Σ dy, rows ascending; parts share the columns.
void add_bias_gradient(const OpContext& c, const Tensor& dy, const Tensor& grad_bias, float scale) {
  constexpr int64_t kColumns = 256;
  const int64_t n_out = dy.shape.last();
  const auto decode = c.kernels.decode[static_cast<size_t>(dy.dtype)];
  const Range mine = c.my_range(n_out, 16);
  float sum[kColumns], row[kColumns];
  for (int64_t o = mine.begin; o < mine.end; o += kColumns) {
    const int64_t n = std::min(kColumns, mine.end - o);
    std::fill_n(sum, n, 0.0f);
    for (int64_t t = 0; t < dy.shape[0]; ++t) {
      decode(static_cast<const std::byte*>(dy.data) + dtype_bytes(dy.dtype, t * n_out + o), row, n);
      c.kernels.add(sum, row, sum, n);
    }
    c.kernels.axpy(scale, sum, grad_bias.f32() + o, n);
  }
}

}  // namespace

size_t scratch_gemm(const Graph&, const Node&, int64_t) {
  return kMostGemmScratch + align_up(kBlockRows * kBlockColumns * sizeof(float));
}

// y = residual + scale · (x Wᵀ + bias)
void run_linear_gemm(const OpContext& c) {
  const Tensor x = c.in(0), w = c.in(1), bias = c.in(2), residual = c.in(3), y = c.out();
  if (w.dtype != DType::kF32 && w.dtype != DType::kBF16) return run_linear(c);
  const int64_t n_out = w.shape[0], n_in = w.shape[1];
  const float scale = c.attrs<ScaleAttrs>().scale;
  Arena::Frame frame(c.scratch);
  const GemmArgs whole{x.shape[0], n_out, n_in,  x.data, w.data, y.f32(),        n_in,
                       n_in,       n_out, false, true,   false,  gemm_scratch(c)};
  const GemmArgs mine = multiply(c, whole, x, w);
  if (!bias && scale == 1 && !residual) return;
  const int64_t first = mine.c - y.f32();  // element of y
  for (int64_t t = 0; t < mine.m; ++t) {
    float* to = mine.c + t * n_out;
    if (bias) c.kernels.add(to, bias.f32() + first % n_out, to, mine.n);
    if (scale != 1) c.kernels.scale(to, scale, to, mine.n);
    if (residual) c.kernels.add(residual.f32() + first + t * n_out, to, to, mine.n);
  }
}

void run_linear_dx(const OpContext& c) {
  const Tensor dy = c.in(0), w = c.in(1), dx = c.out();
  const int64_t n_out = w.shape[0], n_in = w.shape[1];
  const float scale = c.attrs<ScaleAttrs>().scale;
  Arena::Frame frame(c.scratch);
  const GemmArgs whole{dy.shape[0], n_in, n_out, dy.data, w.data, dx.f32(),       n_out,
                       n_in,        n_in, false, false,   false,  gemm_scratch(c)};
  const GemmArgs mine = multiply(c, whole, dy, w);
  for (int64_t t = 0; t < mine.m && scale != 1; ++t) c.kernels.scale(mine.c + t * n_in, scale, mine.c + t * n_in, mine.n);
}

void run_linear_dw(const OpContext& c) {
  const Tensor dy = c.in(0), x = c.in(1), grad = c.in(2), grad_bias = c.in(3);
  const int64_t n_tokens = dy.shape[0], n_out = dy.shape.last(), n_in = x.shape.last();
  const float scale = c.attrs<ProductGradAttrs>().scale;
  if (grad_bias) add_bias_gradient(c, dy, grad_bias, scale);
  if (!grad) return;
  Arena::Frame frame(c.scratch);
  const GemmArgs whole{n_out, n_in, n_tokens, dy.data, x.data, grad.f32(),     n_out,
                       n_in,  n_in, true,     false,   true,   gemm_scratch(c)};
  const GemmArgs mine = gemm_piece(c.kernels, dy.dtype, whole, c.part, c.parts);
  if (scale == 1)
    gemm_alone(c.kernels, dy.dtype, mine);
  else
    add_scaled(c, dy.dtype, mine, scale);
}

}  // namespace moe::cpu

// The reverse of products with routed experts, on GEMMs. Pairs of a token and a slot lie on one line, experts ascending
// (expert_groups.h), and the parts work on one chunk of it at a time, in memory that they share:
//
//   moe_linear_dx   gather dy | rows of an expert · W_e, all experts as one list of products | add to the tokens' dx
//   moe_linear_dw   gather dy and x | grad_e += dyᵀ · x, one list | (grad_bias beside it)
//
// with a barrier at each bar. Chunks have a size given by the matrices alone and leave no trace in dx; a grad_e that two chunks
// meet continues its sums. Along the line a token meets its experts in ascending order of id: that is the order of its sum.
#include <algorithm>
#include <cstring>

#include "backends/cpu/gemm.h"
#include "backends/cpu/ops/expert_groups.h"

namespace moe::cpu {
namespace {

// Gathered rows and results of a chunk: they stay in the third-level cache, and a barrier is nothing beside their products.
constexpr int64_t kChunkFloats = int64_t{1} << 21;
constexpr int64_t kLeastPairs = 256;

// Weights that are not multiplied as they are stored are decoded in blocks, a quarter of the second-level cache.
constexpr int64_t kDecodedRows = 128, kDecodedColumns = 512;  // columns: a multiple of every format's block

// Extents of the stacked matrices (E, n_out, n_in).
struct Extents {
  int64_t experts, n_out, n_in;
  int64_t chunk_pairs() const { return std::max(kLeastPairs, kChunkFloats / (n_out + n_in) / 2 * 2); }  // bf16: k in pairs
};

Extents extents_of(const Graph& g, const Node& n) {
  if (n.op == Op::kMoeLinearDx) {
    const Shape& w = g.value(n.in[2]).shape;
    return {w[0], w[1], w[2]};
  }
  const ValueId grad = n.in[5] != kNone ? n.in[5] : n.in[6];
  return {g.value(grad).shape[0], g.value(n.in[0]).shape.last(), g.value(n.in[1]).shape.last()};
}

// The pairs of this run, and how much of each expert's matrix is used.
struct Routed {
  Routed(const OpContext& context, const Tensor& experts, const Tensor& rows_used, const Tensor& cols_used)
      : c(context),
        ids(experts),
        size(extents_of(c.graph, c.node)),
        groups(ids, size.experts, c.scratch),
        row_limit(rows_used ? rows_used.i32() : nullptr),
        col_limit(cols_used ? cols_used.i32() : nullptr) {}

  int64_t rows(int64_t e) const { return row_limit ? std::clamp<int64_t>(row_limit[e], 0, size.n_out) : size.n_out; }
  int64_t cols(int64_t e) const { return col_limit ? std::clamp<int64_t>(col_limit[e], 0, size.n_in) : size.n_in; }
  int32_t expert_of(int32_t pair) const { return ids.i32()[pair]; }

  // fn(chunk of the line)
  template <class F>
  void for_chunks(F&& fn) const {
    for (int64_t at = 0; at < groups.n_pairs; at += size.chunk_pairs())
      fn(Range{at, std::min(at + size.chunk_pairs(), groups.n_pairs)});
  }
  // fn(expert, its first pair within the chunk, its pairs there)
  template <class F>
  void for_experts(Range chunk, F&& fn) const {
    for (int64_t i = 0; i < groups.n_active; ++i) {
      const Groups::Group& g = groups.active[i];
      const int64_t begin = std::max<int64_t>(g.begin, chunk.begin), end = std::min<int64_t>(g.begin + g.count, chunk.end);
      if (begin < end) fn(g.expert, begin - chunk.begin, end - begin);
    }
  }
  // fn(expert, pair, its place in the chunk) for places in [begin, end)
  template <class F>
  void for_pairs(Range chunk, Range places, F&& fn) const {
    for (int64_t i = places.begin; i < places.end; ++i) {
      const int32_t pair = groups.pairs[chunk.begin + i];
      fn(expert_of(pair), pair, i);
    }
  }
  // This part's rows of the chunk, the first used(expert) elements each, one below the other with the stride of a whole row.
  template <class F>
  void gather(Range chunk, const Activations& from, std::byte* to, F&& used) const {
    for_pairs(chunk, c.my_range(chunk.end - chunk.begin), [&](int64_t e, int32_t pair, int64_t i) {
      std::memcpy(to + static_cast<size_t>(i) * from.stride, from.row(pair), dtype_bytes(from.x.dtype, used(e)));
    });
  }

  const OpContext& c;
  Tensor ids;
  Extents size;
  Groups groups;
  const int32_t *row_limit, *col_limit;
};

// One list of products a chunk.
class Products {
 public:
  explicit Products(const Routed& r)
      : c_(r.c),
        list_(c_.scratch.take<GemmArgs>(static_cast<size_t>(std::min(r.size.chunk_pairs(), r.size.experts)))),
        scratch_(c_.scratch.take<std::byte>(c_.kernels.gemm_scratch)) {}
  void clear() { n_ = 0; }
  void add(const GemmArgs& g) { list_[n_++] = g; }
  void run(DType type) const { gemm_part(c_.kernels, type, {list_, n_}, c_.part, c_.parts, scratch_); }
  std::byte* scratch() const { return scratch_; }

 private:
  const OpContext& c_;
  GemmArgs* list_;
  std::byte* scratch_;
  size_t n_ = 0;
};

// C = A · W over decoded blocks of the first g.k rows of a matrix and the columns given: the same chain of multiply-adds as if
// it had been decoded as a whole.
void multiply_decoded(const OpContext& c, GemmArgs g, const Tensor& w, const std::byte* matrix, Range columns, float* block) {
  const int64_t n_rows = g.k, unit = traits(w.dtype).block_elements;
  const int64_t width = (columns.end - columns.begin + unit - 1) / unit * unit;  // whole blocks
  g.n = columns.end - columns.begin, g.b = block, g.ldb = width, g.c += columns.begin;
  g.k = 0;
  for (int64_t first = 0; first < std::max<int64_t>(1, n_rows); first += kDecodedRows) {
    g.k = std::min(kDecodedRows, n_rows - first), g.accumulate = first > 0;
    for (int64_t r = 0; r < g.k; ++r)
      c.kernels.decode[static_cast<size_t>(w.dtype)](
          matrix + static_cast<size_t>(first + r) * w.row_bytes() + dtype_bytes(w.dtype, columns.begin), block + r * width,
          width);
    c.kernels.gemm_f32(g);
    g.a = static_cast<const float*>(g.a) + g.k;
  }
}

}  // namespace

size_t scratch_moe_grad(const Graph& g, const Node& n, int64_t max_tokens) {
  const Extents size = extents_of(g, n);
  const auto slots = static_cast<size_t>(max_tokens * g.value(n.in[n.op == Op::kMoeLinearDx ? 1 : 2]).shape.last());
  return scratch_groups(slots, static_cast<size_t>(size.experts)) +
         align_up(static_cast<size_t>(std::min(size.chunk_pairs(), size.experts)) * sizeof(GemmArgs)) + kMostGemmScratch +
         align_up(static_cast<size_t>(std::max(kDecodedRows * kDecodedColumns, size.n_out)) * sizeof(float));
}

size_t shared_moe_grad(const Graph& g, const Node& n, int) {
  const Extents size = extents_of(g, n);
  const auto pairs = static_cast<size_t>(size.chunk_pairs());
  return align_up(pairs * static_cast<size_t>(size.n_out) * sizeof(float)) +
         align_up(pairs * static_cast<size_t>(size.n_in) * sizeof(float));
}

// Parts share the columns of dx: whoever owns a column adds the chunk's rows in the order of the line.
void run_moe_linear_dx(const OpContext& c) {
  const Tensor ids = c.in(1), w = c.in(2), dx = c.out();
  const int64_t K = ids.shape.last();
  const bool slots = c.attrs<MoeGradAttrs>().slots;
  const Activations dy(c.in(0), K);
  Arena::Frame frame(c.scratch);
  const Routed r(c, ids, c.in(3), c.in(4));
  const int64_t n_out = r.size.n_out, n_in = r.size.n_in;
  Products products(r);
  const bool as_stored = dy.x.dtype == w.dtype;
  float* block = as_stored ? nullptr : c.scratch.take<float>(kDecodedRows * kDecodedColumns);
  std::byte* rows = c.shared;
  auto* results =
      reinterpret_cast<float*>(c.shared + align_up(static_cast<size_t>(r.size.chunk_pairs() * n_out) * sizeof(float)));

  const auto product = [&](int64_t e, int64_t first, int64_t count) {
    const std::byte* matrix = static_cast<const std::byte*>(w.data) + static_cast<size_t>(e * n_out) * w.row_bytes();
    return GemmArgs{count,
                    r.cols(e),
                    r.rows(e),
                    rows + static_cast<size_t>(first) * dy.stride,
                    matrix,
                    results + first * n_in,
                    n_out,
                    n_in,
                    n_in,
                    false,
                    false,
                    false,
                    products.scratch()};
  };
  const auto multiply = [&](Range chunk) {
    products.clear();
    r.for_experts(chunk, [&](int64_t e, int64_t first, int64_t count) { products.add(product(e, first, count)); });
    products.run(dy.x.dtype);
  };
  int64_t task = 0;
  const auto multiply_other_formats = [&](Range chunk) {
    r.for_experts(chunk, [&](int64_t e, int64_t first, int64_t count) {
      const GemmArgs g = product(e, first, count);
      for (int64_t j = 0; j < g.n; j += kDecodedColumns)
        if (task++ % c.parts == c.part)
          multiply_decoded(c, g, w, static_cast<const std::byte*>(g.b), {j, std::min(j + kDecodedColumns, g.n)}, block);
    });
  };
  const Range mine = c.my_range(n_in, 16);
  const auto columns = [&](int64_t row) { return dx.f32() + row * n_in + mine.begin; };
  const auto scatter = [&](int64_t e, int32_t pair, int64_t place) {
    const int64_t used = std::clamp<int64_t>(r.cols(e) - mine.begin, 0, mine.end - mine.begin);
    const float* from = results + place * n_in + mine.begin;
    if (slots)
      std::fill(std::copy_n(from, used, columns(pair)), columns(pair) + (mine.end - mine.begin), 0.0f);
    else
      c.kernels.add(columns(pair / K), from, columns(pair / K), used);
  };

  for (int64_t row = 0; row < ids.shape.elements() / (slots ? 1 : K); ++row)
    if (!slots || r.expert_of(static_cast<int32_t>(row)) < 0) std::fill_n(columns(row), mine.end - mine.begin, 0.0f);
  c.barrier();  // the memory shared is free
  r.for_chunks([&](Range chunk) {
    r.gather(chunk, dy, rows, [&](int64_t e) { return r.rows(e); });
    c.barrier();
    as_stored ? multiply(chunk) : multiply_other_formats(chunk);
    c.barrier();
    r.for_pairs(chunk, {0, chunk.end - chunk.begin}, scatter);
  });
}

void run_moe_linear_dw(const OpContext& c) {
  const Tensor ids = c.in(2), grad = c.in(5), grad_bias = c.in(6);
  const Activations dy(c.in(0), ids.shape.last()), x(c.in(1), ids.shape.last());
  Arena::Frame frame(c.scratch);
  const Routed r(c, ids, c.in(3), c.in(4));
  const int64_t n_out = r.size.n_out, n_in = r.size.n_in;
  Products products(r);
  float* row = c.scratch.take<float>(static_cast<size_t>(n_out));
  std::byte* dy_rows = c.shared;
  std::byte* x_rows = c.shared + align_up(static_cast<size_t>(r.size.chunk_pairs() * n_out) * sizeof(float));

  const auto multiply = [&](Range chunk) {
    products.clear();
    r.for_experts(chunk, [&](int64_t e, int64_t first, int64_t count) {
      const auto at = static_cast<size_t>(first);
      products.add({r.rows(e), r.cols(e), count, dy_rows + at * dy.stride, x_rows + at * x.stride,
                    grad.f32() + e * n_out * n_in, n_out, n_in, n_in, true, false, true, nullptr});
    });
    products.run(dy.x.dtype);
  };
  const auto decode = c.kernels.decode[static_cast<size_t>(dy.x.dtype)];
  const Range mine = c.my_range(n_out, 16);
  const auto add_to_bias = [&](int64_t e, int32_t, int64_t place) {
    const int64_t n = std::min(mine.end, r.rows(e)) - mine.begin;
    if (n <= 0) return;
    decode(dy_rows + static_cast<size_t>(place) * dy.stride + dtype_bytes(dy.x.dtype, mine.begin), row, n);
    float* to = grad_bias.f32() + e * n_out + mine.begin;
    c.kernels.add(to, row, to, n);
  };

  r.for_chunks([&](Range chunk) {
    c.barrier();  // the memory shared is free
    r.gather(chunk, dy, dy_rows, [&](int64_t e) { return r.rows(e); });
    if (grad) r.gather(chunk, x, x_rows, [&](int64_t e) { return r.cols(e); });
    c.barrier();
    if (grad) multiply(chunk);
    if (grad_bias) r.for_pairs(chunk, {0, chunk.end - chunk.begin}, add_to_bias);
  });
}

}  // namespace moe::cpu

// Products of training with routed experts, on GEMMs: moe_linear where throughput is asked for, and its reverse. Pairs of a
// token and a slot lie on one line, experts ascending (expert_groups.h). Nothing is gathered or scattered: a product finds its
// rows of activations, gradients and results by the pairs of its expert.
//
//   moe_linear      y[pairs]       = x[pairs or tokens] · W_eᵀ        all experts as one list of products
//   moe_linear_dx   dx[pairs]      = dy[pairs] · W_e                  likewise
//                   dx[tokens]    += dy[pairs] · W_e                  each part its own tokens, experts ascending
//   moe_linear_dw   grad_e        += dy[pairs]ᵀ · x[pairs or tokens]  one list
//
// So parts need not meet but before a bias. Rejected: copying the rows of a chunk to shared memory first, which costs two
// passes over them and two barriers a chunk.
#include <algorithm>

#include "backends/cpu/gemm.h"
#include "backends/cpu/ops/expert_groups.h"

namespace moe::cpu {
namespace {

// Weights that are not multiplied as they are stored are decoded in blocks, a quarter of the second-level cache.
constexpr int64_t kDecodedRows = 128, kDecodedColumns = 512;  // columns: a multiple of every format's block

// Extents of the stacked matrices (E, n_out, n_in).
struct Extents {
  int64_t experts, n_out, n_in;
};

Extents extents_of(const Graph& g, const Node& n) {
  if (n.op != Op::kMoeLinearDw) {
    const Shape& w = g.value(n.in[2]).shape;
    return {w[0], w[1], w[2]};
  }
  const ValueId grad = n.in[5] != kNone ? n.in[5] : n.in[6];
  return {g.value(grad).shape[0], g.value(n.in[0]).shape.last(), g.value(n.in[1]).shape.last()};
}

// The pairs of this run, and how much of each expert's matrix is used.
struct Routed {
  Routed(const OpContext& c, const Tensor& experts, const Tensor& rows_used, const Tensor& cols_used)
      : ids(experts),
        size(extents_of(c.graph, c.node)),
        groups(ids, size.experts, c.scratch),
        tokens(c.scratch.take<int32_t>(static_cast<size_t>(groups.n_pairs))),
        row_limit(rows_used ? rows_used.i32() : nullptr),
        col_limit(cols_used ? cols_used.i32() : nullptr) {
    const auto k = static_cast<int32_t>(ids.shape.last());
    std::transform(groups.pairs, groups.pairs + groups.n_pairs, tokens, [k](int32_t pair) { return pair / k; });
  }

  int64_t rows(int64_t e) const { return row_limit ? std::clamp<int64_t>(row_limit[e], 0, size.n_out) : size.n_out; }
  int64_t cols(int64_t e) const { return col_limit ? std::clamp<int64_t>(col_limit[e], 0, size.n_in) : size.n_in; }

  // Which row of x, (T, n) or (T, K, n), belongs to each place of the line.
  const int32_t* rows_of(const Tensor& x) const { return x.shape.rank == 2 ? tokens : groups.pairs; }

  // fn(expert, places of its pairs on the line)
  template <class F>
  void for_experts(F&& fn) const {
    for (int64_t i = 0; i < groups.n_active; ++i) {
      const Groups::Group& g = groups.active[i];
      fn(int64_t{g.expert}, Range{g.begin, g.begin + g.count});
    }
  }

  // The places whose tokens are in `wanted`: an expert's tokens ascend.
  Range of_tokens(Range places, Range wanted) const {
    const auto first = [&](int64_t token) {
      return std::lower_bound(tokens + places.begin, tokens + places.end, static_cast<int32_t>(token)) - tokens;
    };
    return {first(wanted.begin), first(wanted.end)};
  }

  Tensor ids;
  Extents size;
  Groups groups;
  int32_t* tokens;  // (pairs) of the line
  const int32_t *row_limit, *col_limit;
};

// Numbers beyond `used`(expert) of this part's pairs become 0, all of them where there is no expert.
template <class F>
void clear_unused(const OpContext& c, const Tensor& ids, const Tensor& y, F&& used) {
  const int64_t n = y.shape.last();
  const Range mine = c.my_range(ids.shape.elements());
  for (int64_t pair = mine.begin; pair < mine.end; ++pair) {
    const int32_t e = ids.i32()[pair];
    std::fill(y.f32() + pair * n + (e < 0 ? 0 : used(e)), y.f32() + (pair + 1) * n, 0.0f);
  }
}

// Products of activations with the matrices of experts, C (+)= A · op(W).
class Products {
 public:
  // w: empty where both sides are activations.
  Products(const OpContext& c, const Routed& r, const Tensor& w, DType activations)
      : c_(c),
        w_(w),
        type_(activations),
        as_stored_(!w || w.dtype == activations),
        list_(c.scratch.take<GemmArgs>(static_cast<size_t>(r.groups.n_active))),
        scratch_(c.scratch.take<std::byte>(c.kernels.gemm_scratch)),
        block_(as_stored_ ? nullptr : c.scratch.take<float>(kDecodedRows * kDecodedColumns)) {
    MOE_CHECK(as_stored_ || type_ == DType::kF32);
  }

  const std::byte* matrix(int64_t expert) const {
    return static_cast<const std::byte*>(w_.data) + static_cast<size_t>(expert * w_.shape[1]) * w_.row_bytes();
  }

  // One of the list.
  void add(const GemmArgs& g) { list_[n_++] = g; }

  // This part's share of the list. `g.b` of each is matrix(expert).
  void run_share() const {
    if (as_stored_) return gemm_part(c_.kernels, type_, {list_, n_}, c_.part, c_.parts, scratch_);
    int64_t task = 0;
    for (size_t i = 0; i < n_; ++i)
      for_columns(list_[i], [&](Range columns) {
        if (task++ % c_.parts == c_.part) multiply_decoded(list_[i], columns);
      });
  }

  // The whole list, one after another.
  void run_all() const {
    for (size_t i = 0; i < n_; ++i) {
      GemmArgs g = list_[i];
      g.scratch = scratch_, g.next = i + 1 < n_ ? &list_[i + 1] : nullptr;
      if (as_stored_)
        gemm_alone(c_.kernels, type_, g);
      else
        for_columns(g, [&](Range columns) { multiply_decoded(g, columns); });
    }
  }

 private:
  // Columns of C that one block of W makes.
  template <class F>
  static void for_columns(const GemmArgs& g, F&& fn) {
    const int64_t step = g.transpose_b ? kDecodedRows : kDecodedColumns;
    for (int64_t j = 0; j < g.n; j += step) fn(Range{j, std::min(j + step, g.n)});
  }

  // Columns of C over decoded blocks of W: the same chains of multiply-adds as if it had been decoded as a whole.
  void multiply_decoded(GemmArgs g, Range columns) const {
    const int64_t n_k = g.k, step = g.transpose_b ? kDecodedColumns : kDecodedRows;
    const auto* matrix = static_cast<const std::byte*>(g.b);
    g.n = columns.end - columns.begin, g.b = block_, g.c += columns.begin, g.scratch = scratch_, g.next = nullptr;
    int64_t p = 0;
    do {
      const Range terms{p, std::min(p + step, n_k)};
      g.k = terms.end - terms.begin;
      g.ldb = g.transpose_b ? decode(matrix, columns, terms) : decode(matrix, terms, columns);
      c_.kernels.gemm_f32(g);
      g.a = static_cast<const float*>(g.a) + g.k, g.accumulate = true, p = terms.end;
    } while (p < n_k);
  }

  // Fills the block; returns the elements between its rows.
  int64_t decode(const std::byte* matrix, Range rows, Range columns) const {
    const int64_t unit = traits(w_.dtype).block_elements;
    const int64_t width = (columns.end - columns.begin + unit - 1) / unit * unit;  // whole blocks
    for (int64_t r = rows.begin; r < rows.end; ++r)
      c_.kernels.decode[static_cast<size_t>(w_.dtype)](
          matrix + static_cast<size_t>(r) * w_.row_bytes() + dtype_bytes(w_.dtype, columns.begin),
          block_ + (r - rows.begin) * width, width);
    return width;
  }

  const OpContext& c_;
  const Tensor w_;
  DType type_;
  bool as_stored_;
  GemmArgs* list_;
  std::byte* scratch_;
  float* block_;
  size_t n_ = 0;
};

}  // namespace

size_t scratch_moe_gemm(const Graph& g, const Node& n, int64_t max_tokens) {
  const Extents size = extents_of(g, n);
  const auto slots = static_cast<size_t>(max_tokens * g.value(n.in[n.op == Op::kMoeLinearDw ? 2 : 1]).shape.last());
  const auto experts = static_cast<size_t>(size.experts);
  const size_t bytes = scratch_groups(slots, experts) + align_up(slots * sizeof(int32_t)) +
                       align_up(std::min(slots, experts) * sizeof(GemmArgs)) + kMostGemmScratch +
                       align_up(static_cast<size_t>(std::max(kDecodedRows * kDecodedColumns, size.n_out)) * sizeof(float));
  return n.op == Op::kMoeLinear ? std::max(bytes, scratch_moe(g, n, max_tokens)) : bytes;  // other formats
}

void run_moe_linear_gemm(const OpContext& c) {
  const Tensor x = c.in(0), ids = c.in(1), w = c.in(2), bias = c.in(3), y = c.out();
  if (w.dtype != DType::kF32 && w.dtype != DType::kBF16) return run_moe_linear(c);
  Arena::Frame frame(c.scratch);
  const Routed r(c, ids, c.in(4), c.in(5));
  const int64_t n_out = r.size.n_out, n_in = r.size.n_in;
  Products products(c, r, w, x.dtype);
  r.for_experts([&](int64_t e, Range places) {
    products.add({places.end - places.begin, r.rows(e), r.cols(e), x.data, products.matrix(e), y.f32(), n_in, n_in, n_out,
                  false, true, false, nullptr, r.rows_of(x) + places.begin, nullptr, r.groups.pairs + places.begin});
  });
  products.run_share();
  clear_unused(c, ids, y, [&](int64_t e) { return r.rows(e); });
  if (!bias) return;
  c.barrier();
  const Range mine = c.my_range(ids.shape.elements());
  for (int64_t pair = mine.begin; pair < mine.end; ++pair) {
    const int32_t e = ids.i32()[pair];
    if (e >= 0) c.kernels.add(y.f32() + pair * n_out, bias.f32() + e * n_out, y.f32() + pair * n_out, r.rows(e));
  }
}

void run_moe_linear_dx(const OpContext& c) {
  const Tensor dy = c.in(0), ids = c.in(1), w = c.in(2), dx = c.out();
  const bool slots = c.attrs<MoeGradAttrs>().slots;
  Arena::Frame frame(c.scratch);
  const Routed r(c, ids, c.in(3), c.in(4));
  const int64_t n_out = r.size.n_out, n_in = r.size.n_in;
  Products products(c, r, w, dy.dtype);
  const auto product = [&](int64_t e, Range places) {
    return GemmArgs{places.end - places.begin,
                    r.cols(e),
                    r.rows(e),
                    dy.data,
                    products.matrix(e),
                    dx.f32(),
                    n_out,
                    n_in,
                    n_in,
                    false,
                    false,
                    !slots,
                    nullptr,
                    r.groups.pairs + places.begin,
                    nullptr,
                    r.rows_of(dx) + places.begin};
  };
  if (slots) {
    r.for_experts([&](int64_t e, Range places) { products.add(product(e, places)); });
    products.run_share();
    return clear_unused(c, ids, dx, [&](int64_t e) { return r.cols(e); });
  }
  const Range mine = c.my_range(dx.shape[0]);
  std::fill(dx.f32() + mine.begin * n_in, dx.f32() + mine.end * n_in, 0.0f);
  r.for_experts([&](int64_t e, Range places) { products.add(product(e, r.of_tokens(places, mine))); });
  products.run_all();
}

void run_moe_linear_dw(const OpContext& c) {
  const Tensor dy = c.in(0), x = c.in(1), ids = c.in(2), grad = c.in(5), grad_bias = c.in(6);
  Arena::Frame frame(c.scratch);
  const Routed r(c, ids, c.in(3), c.in(4));
  const int64_t n_out = r.size.n_out, n_in = r.size.n_in;
  if (grad) {
    Products products(c, r, Tensor{}, dy.dtype);
    r.for_experts([&](int64_t e, Range places) {
      products.add({r.rows(e), r.cols(e), places.end - places.begin, dy.data, x.data, grad.f32() + e * n_out * n_in, n_out,
                    n_in, n_in, true, false, true, nullptr, r.groups.pairs + places.begin, r.rows_of(x) + places.begin,
                    nullptr});
    });
    products.run_share();
  }
  if (!grad_bias) return;
  const auto decode = c.kernels.decode[static_cast<size_t>(dy.dtype)];
  const Range mine = c.my_range(n_out, 16);
  float* row = c.scratch.take<float>(static_cast<size_t>(n_out));
  r.for_experts([&](int64_t e, Range places) {
    const int64_t n = std::min(mine.end, r.rows(e)) - mine.begin;
    float* to = grad_bias.f32() + e * n_out + mine.begin;
    for (int64_t i = places.begin; i < places.end && n > 0; ++i) {
      const auto* from = static_cast<const std::byte*>(dy.data) + static_cast<size_t>(r.groups.pairs[i]) * dy.row_bytes();
      decode(from + dtype_bytes(dy.dtype, mine.begin), row, n);
      c.kernels.add(to, row, to, n);
    }
  });
}

}  // namespace moe::cpu

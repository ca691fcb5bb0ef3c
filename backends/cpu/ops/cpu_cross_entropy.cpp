// cross_entropy and its gradient. All threads work on one chunk of rows at a time, whose logits lie in memory that they share:
//
//   gather    the chunk's rows, those with a loss: rows x (n, d)       each thread some rows
//   logits    x · Wᵀ (n, V), and the teacher's                         columns
//   rows      losses; dL/dlogits takes the place of the logits         rows
//   products  dx = dlogits · W,  grad_w += dlogitsᵀ · x                strips of both
//   scatter   dx to its rows                                           rows
//
// with a barrier between them. A chunk's size depends on the vocabulary alone. Heads that are not multiplied as they are stored
// are decoded block by block of rows, into shared memory too. Rejected: logits block by block of the vocabulary with a running
// sum, which the gradient would have to make twice.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/gemm.h"
#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

constexpr int64_t kChunkRows = 256, kLeastRows = 16;
constexpr int64_t kChunkLogits = int64_t{1} << 24;
constexpr int64_t kDecodedRows = 512;  // of a head, at a time
constexpr int64_t kEncoded = 1024;     // elements rounded at a time

// Inputs of both ops; cross_entropy has the first three.
enum Input : size_t { kX, kW, kTargets, kRowWeight, kTeacherX, kTeacherW, kMixture, kGradW };

int64_t chunk_rows(int64_t vocabulary) { return std::clamp(kChunkLogits / vocabulary, kLeastRows, kChunkRows); }

bool has_input(const Node& n, size_t i) { return i < n.in.size() && n.in[i] != kNone; }

// What the products of a head are made in: what its weights are stored in, or float32.
DType product_type(DType weight, const CrossEntropyAttrs& a) {
  return weight == DType::kBF16 && a.round == DType::kBF16 ? DType::kBF16 : DType::kF32;
}

// A head and the chunk's rows that meet it.
struct Head {
  Tensor x, w;    // (N, d), (V, d)
  DType product;  // of rows and weights
  float scale, softcap;
  std::byte* rows;  // (chunk, d) of type `product`
  float* logits;    // (chunk, V)

  int64_t width() const { return w.shape.last(); }
  bool as_stored() const { return w.dtype == product; }
};

// Memory that the threads share.
struct Layout {
  size_t rows, logits, teacher_rows, teacher_logits, dx, decoded, bytes;

  Layout(const Graph& g, const Node& n) {
    const Shape& w = g.value(n.in[kW]).shape;
    const bool gradient = n.op == Op::kCrossEntropyGrad, teacher = has_input(n, kTeacherW);
    const int64_t chunk = chunk_rows(w[0]), teacher_width = teacher ? g.value(n.in[kTeacherW]).shape.last() : 0;
    bytes = 0;
    rows = take(chunk * w.last());
    logits = take(chunk * w[0]);
    teacher_rows = take(chunk * teacher_width);
    teacher_logits = take(teacher ? chunk * w[0] : 0);
    dx = take(gradient ? chunk * w.last() : 0);
    decoded = take(std::min(kDecodedRows, w[0]) * std::max(w.last(), teacher_width));
  }

 private:
  size_t take(int64_t n_floats) {
    const size_t at = bytes;
    bytes += align_up(static_cast<size_t>(n_floats) * sizeof(float));
    return at;
  }
};

// Losses of one row of logits, and what its gradient is made of. Rows of V floats.
class RowLoss {
 public:
  RowLoss(const KernelTable& k, int64_t vocabulary, Arena& scratch) : k_(k), V_(vocabulary) {
    p_ = scratch.take<float>(static_cast<size_t>(V_));
    student_ = scratch.take<float>(static_cast<size_t>(V_));
    apart_ = scratch.take<float>(static_cast<size_t>(V_));
  }

  // Products with the head become logits.
  void finish(const Head& h, float* z) const {
    if (h.scale != 1) k_.scale(z, h.scale, z, V_);
    if (h.softcap > 0) k_.softcap(z, h.softcap, V_);
  }

  // −log softmax(z)[target]; p_ = exp(z − max) and sum_.
  float cross_entropy(const float* z, int32_t target) {
    const float top = k_.max(z, V_);
    std::copy_n(z, V_, p_);
    sum_ = k_.exp_minus_max(p_, top, V_);
    return static_cast<float>(std::log(double{sum_}) + double{top} - double{z[target]});
  }

  // p_ = weight · (softmax(z) − the target)
  void gradient(int32_t target, float weight) {
    k_.scale(p_, weight / sum_, p_, V_);
    p_[target] -= weight;
  }

  // KL(softmax(t/τ) ‖ softmax(z/τ)); p_ += weight · (softmax(z/τ) − softmax(t/τ)). t is overwritten.
  float distil(const float* z, float* t, float temperature, float weight) {
    center(z, temperature, student_);
    center(t, temperature, t);
    std::copy_n(t, V_, apart_);
    k_.axpy(-1, student_, apart_, V_);
    const float student_sum = k_.exp_minus_max(student_, 0, V_), sum = k_.exp_minus_max(t, 0, V_);
    k_.axpy(weight / student_sum, student_, p_, V_);
    k_.axpy(-weight / sum, t, p_, V_);
    float mean = 0;
    const void* x = t;
    float* y = &mean;
    k_.dot_f32[static_cast<size_t>(DType::kF32)]({apart_, static_cast<size_t>(V_) * sizeof(float), V_, 1, &x, 1, &y});
    return static_cast<float>(double{mean} / double{sum} + std::log(double{student_sum} / double{sum}));
  }

  // p_ as the gradient of products with the head, in place of the logits: through softcap and scale.
  void store(const Head& h, float* z) const {
    if (h.softcap > 0) {  // d(c · tanh(u / c)) / du = 1 − (z / c)²
      k_.mul(z, z, z, V_);
      k_.mul(z, p_, z, V_);
      k_.axpy(-1 / (h.softcap * h.softcap), z, p_, V_);
    }
    k_.scale(p_, h.scale, z, V_);
    if (h.product == DType::kBF16) round(z);
  }

  void clear(const Head& h, float* z) const {
    std::memset(z, 0, static_cast<size_t>(V_) * (h.product == DType::kBF16 ? 2 : 4));
  }

 private:
  // to = (z − max) / τ
  void center(const float* z, float temperature, float* to) const {
    const float top = k_.max(z, V_);
    for (int64_t i = 0; i < V_; ++i) to[i] = z[i] - top;
    k_.scale(to, 1 / temperature, to, V_);
  }

  // To bfloat16, at the beginning of the row.
  void round(float* z) const {
    uint16_t piece[kEncoded];
    for (int64_t i = 0; i < V_; i += kEncoded) {
      const int64_t n = std::min(kEncoded, V_ - i);
      k_.encode_bf16(z + i, piece, n);
      std::memcpy(reinterpret_cast<uint16_t*>(z) + i, piece, static_cast<size_t>(n) * sizeof(uint16_t));
    }
  }

  const KernelTable& k_;
  const int64_t V_;
  float *p_, *student_, *apart_;
  float sum_ = 0;
};

class CrossEntropy {
 public:
  explicit CrossEntropy(const OpContext& c)
      : c_(c),
        layout_(c.graph, c.node),
        gradient_(c.node.op == Op::kCrossEntropyGrad),
        V_(c.in(kW).shape[0]),
        chunk_(chunk_rows(V_)),
        loss_(c.kernels, V_, c.scratch) {
    const auto& a = c.attrs<CrossEntropyAttrs>();
    student_ = {c.in(kX),
                c.in(kW),
                product_type(c.in(kW).dtype, a),
                a.logit_scale,
                a.softcap,
                c.shared + layout_.rows,
                floats(layout_.logits)};
    if (c.has(kTeacherW))
      teacher_ = {c.in(kTeacherX),
                  c.in(kTeacherW),
                  product_type(c.in(kTeacherW).dtype, a),
                  a.teacher_logit_scale,
                  a.teacher_softcap,
                  c.shared + layout_.teacher_rows,
                  floats(layout_.teacher_logits)};
    rows_ = c.scratch.take<int64_t>(static_cast<size_t>(chunk_));
    gemm_scratch_ = c.scratch.take<std::byte>(kMostGemmScratch);
  }

  void run() {
    clear_outputs();
    c_.barrier();  // before another's rows are written, and with the op before about the shared memory
    for (int64_t next = 0; n_ = next_chunk(next), n_ > 0;) {
      gather(student_);
      if (teacher_.w) gather(teacher_);
      c_.barrier();
      make_logits(student_);
      if (teacher_.w) make_logits(teacher_);
      c_.barrier();
      const Range mine = c_.my_range(n_);
      for (int64_t i = mine.begin; i < mine.end; ++i) row(i);
      if (!gradient_) continue;
      c_.barrier();
      products();
      c_.barrier();
      for (int64_t i = mine.begin; i < mine.end; ++i)
        std::copy_n(floats(layout_.dx) + i * student_.width(), student_.width(), c_.out(2).f32() + rows_[i] * student_.width());
    }
  }

 private:
  float* floats(size_t at) const { return reinterpret_cast<float*>(c_.shared + at); }

  void clear_outputs() const {
    const int64_t n_rows = student_.x.shape[0];
    const Range mine = c_.my_range(n_rows);
    for (size_t i = 0; i < c_.node.out.size(); ++i) {
      const Tensor y = c_.out(i);
      const int64_t width = y.shape.elements() / std::max<int64_t>(n_rows, 1);
      std::fill(y.f32() + mine.begin * width, y.f32() + mine.end * width, 0.0f);
    }
  }

  // The next rows with a loss, from row `next` on: how many, at most a chunk.
  int64_t next_chunk(int64_t& next) {
    const int32_t* targets = c_.in(kTargets).i32();
    const float* weight = gradient_ ? c_.in(kRowWeight).f32() : nullptr;
    int64_t n = 0;
    for (; next < student_.x.shape[0] && n < chunk_; ++next) {
      MOE_CHECK(targets[next] >= -1 && targets[next] < V_);
      if (targets[next] >= 0 && (!weight || weight[next] != 0)) rows_[n++] = next;
    }
    return n;
  }

  void gather(const Head& h) const {
    const Range mine = c_.my_range(n_);
    const size_t bytes = dtype_bytes(h.product, h.width());
    for (int64_t i = mine.begin; i < mine.end; ++i) {
      const float* from = h.x.f32() + rows_[i] * h.width();
      std::byte* to = h.rows + static_cast<size_t>(i) * bytes;
      if (h.product == DType::kBF16)
        c_.kernels.encode_bf16(from, to, h.width());
      else
        std::memcpy(to, from, bytes);
    }
  }

  // block(rows of the head, first, how many) for all of it, on every thread.
  template <class F>
  void for_blocks(const Head& h, F&& block) const {
    if (h.as_stored()) return block(h.w.data, int64_t{0}, V_);
    float* decoded = floats(layout_.decoded);
    for (int64_t v = 0; v < V_; v += kDecodedRows) {
      const int64_t n = std::min(kDecodedRows, V_ - v);
      const Range mine = c_.my_range(n);
      for (int64_t i = mine.begin; i < mine.end; ++i)
        c_.kernels.decode[static_cast<size_t>(h.w.dtype)](
            static_cast<const std::byte*>(h.w.data) + static_cast<size_t>(v + i) * h.w.row_bytes(), decoded + i * h.width(),
            h.width());
      c_.barrier();
      block(static_cast<const void*>(decoded), v, n);
      c_.barrier();
    }
  }

  void multiply(DType type, std::span<const GemmArgs> products) const {
    gemm_part(c_.kernels, type, products, c_.part, c_.parts, gemm_scratch_);
  }

  void make_logits(const Head& h) const {
    const int64_t d = h.width();
    for_blocks(h, [&](const void* w, int64_t first, int64_t n) {
      const GemmArgs product{n_, n, d, h.rows, w, h.logits + first, d, d, V_, false, true, false, nullptr};
      multiply(h.product, {&product, 1});
    });
  }

  void row(int64_t i) {
    float* z = student_.logits + i * V_;
    loss_.finish(student_, z);
    const int64_t at = rows_[i];
    const int32_t target = c_.in(kTargets).i32()[at];
    c_.out(0).f32()[at] = loss_.cross_entropy(z, target);
    if (!gradient_) return;
    const float weight = c_.in(kRowWeight).f32()[at];
    if (teacher_.w) {
      const float alpha = c_.in(kMixture).f32()[0], temperature = c_.in(kMixture).f32()[1];
      float* t = teacher_.logits + i * V_;
      loss_.finish(teacher_, t);
      loss_.gradient(target, weight * (1 - alpha));
      c_.out(1).f32()[at] = loss_.distil(z, t, temperature, weight * alpha * temperature);
    } else {
      loss_.gradient(target, weight);
    }
    loss_.store(student_, z);
  }

  // dlogits as bfloat16 lie at the beginnings of rows that are twice as long.
  void products() const {
    const Head& h = student_;
    const int64_t d = h.width(), pitch = h.product == DType::kBF16 ? 2 * V_ : V_;
    const auto dx = [&](const void* w, int64_t first, int64_t n) {
      return GemmArgs{n_, d, n, h.logits + first, w, floats(layout_.dx), pitch, d, d, false, false, first > 0, nullptr};
    };
    GemmArgs both[2];
    size_t n_products = 0;
    if (c_.has(kGradW))
      both[n_products++] = {V_, d, n_, h.logits, h.rows, c_.in(kGradW).f32(), pitch, d, d, true, false, true, nullptr};
    if (h.as_stored()) both[n_products++] = dx(h.w.data, 0, V_);
    multiply(h.product, {both, n_products});
    if (h.as_stored()) return;
    for_blocks(h, [&](const void* w, int64_t first, int64_t n) {
      const GemmArgs product = dx(w, first, n);
      multiply(h.product, {&product, 1});
    });
  }

  const OpContext& c_;
  const Layout layout_;
  const bool gradient_;
  const int64_t V_, chunk_;
  RowLoss loss_;
  Head student_{}, teacher_{};
  int64_t* rows_;  // (chunk) which rows the chunk has
  int64_t n_ = 0;  // of them
  std::byte* gemm_scratch_;
};

}  // namespace

size_t scratch_cross_entropy(const Graph& g, const Node& n, int64_t) {
  const int64_t vocabulary = g.value(n.in[kW]).shape[0];
  return 3 * align_up(static_cast<size_t>(vocabulary) * sizeof(float)) +
         align_up(static_cast<size_t>(chunk_rows(vocabulary)) * sizeof(int64_t)) + align_up(kMostGemmScratch);
}

size_t shared_cross_entropy(const Graph& g, const Node& n, int) { return Layout(g, n).bytes; }

void run_cross_entropy(const OpContext& c) {
  Arena::Frame frame(c.scratch);
  CrossEntropy(c).run();
}

void run_cross_entropy_grad(const OpContext& c) { run_cross_entropy(c); }

}  // namespace moe::cpu

// Reverse passes of norms and softmax.
//
// Gradients of a norm's weight and bias are sums over rows. Rows are cut into shares whatever the number of threads: each
// is summed up in ascending order into a row of shared memory, and those are added to the gradient in ascending order.
#include <algorithm>
#include <cmath>

#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

constexpr int64_t kMostShares = 64;

// Parts begin at cache lines of their own.
size_t padded_floats(int64_t n) { return align_up(static_cast<size_t>(n) * sizeof(float)) / sizeof(float); }

class NormGrad {
 public:
  NormGrad(const OpContext& c, bool centered)
      : c_(c),
        centered_(centered),
        eps_(c.attrs<NormAttrs>().eps),
        n_(c.attrs<NormAttrs>().group),
        x_(c.in(0)),
        weight_(c.has(1) ? c.in(1).f32() : nullptr),
        dy_(c.in(2)),
        shares_(std::min(kMostShares, x_.shape[0])) {}

  void run() {
    Arena::Frame frame(c_.scratch);
    const size_t floats = padded_floats(n_);
    u_ = c_.scratch.take<float>(floats), du_ = c_.scratch.take<float>(floats), ones_ = c_.scratch.take<float>(floats);
    std::fill_n(ones_, n_, 1.0f);
    const bool sums = c_.has(3) || c_.has(4);
    if (sums) c_.barrier();  // shared memory is ours from here on
    const Range shares = c_.my_range(shares_);
    for (int64_t share = shares.begin; share < shares.end; ++share) {
      const Range rows = split_range(x_.shape[0], static_cast<int>(share), static_cast<int>(shares_));
      if (sums) std::fill_n(partial(share), 2 * padded_floats(n_), 0.0f);
      const int64_t width = x_.shape[1];
      for (int64_t i = rows.begin * width; i < rows.end * width; i += n_) run_group(i, sums ? partial(share) : nullptr);
    }
    if (!sums) return;
    c_.barrier();
    add_partials(3, 0);
    add_partials(4, static_cast<int64_t>(floats));
  }

 private:
  // Σ dy · u of a share, then Σ dy.
  float* partial(int64_t share) const {
    return reinterpret_cast<float*>(c_.shared) + static_cast<size_t>(share) * 2 * padded_floats(n_);
  }

  float mean_of_products(const float* a, const float* b) const {
    float sum = 0;
    float* y = &sum;
    const void* x = b;
    c_.kernels.dot_f32[static_cast<size_t>(DType::kF32)]({a, 0, n_, 1, &x, 1, &y});
    return sum / static_cast<float>(n_);
  }

  void run_group(int64_t at, float* sums) const {
    const KernelTable& k = c_.kernels;
    const float* x = x_.f32() + at;
    const float* dy = dy_.f32() + at;
    float* dx = c_.out().f32() + at;
    if (!centered_) return k.rms_norm_grad({x, weight_, dy, sums, dx, eps_, n_});
    std::copy_n(x, n_, u_);
    k.axpy(-mean_of_products(x, ones_), ones_, u_, n_);
    const float r = 1 / std::sqrt(mean_of_products(u_, u_) + eps_);
    k.scale(u_, r, u_, n_);
    if (c_.has(3)) {
      k.mul(dy, u_, du_, n_);
      k.add(sums, du_, sums, n_);
    }
    if (c_.has(4)) k.add(sums + padded_floats(n_), dy, sums + padded_floats(n_), n_);
    const float* du = dy;
    if (weight_) {
      k.mul(dy, weight_, du_, n_);
      du = du_;
    }
    const float along = mean_of_products(du, u_), common = mean_of_products(du, ones_);
    k.scale(du, r, dx, n_);
    k.axpy(-r * along, u_, dx, n_);
    k.axpy(-r * common, ones_, dx, n_);
  }

  void add_partials(size_t input, int64_t offset) const {
    if (!c_.has(input)) return;
    const Range mine = c_.my_range(n_, 16);
    float* grad = c_.in(input).f32() + mine.begin;
    for (int64_t share = 0; share < shares_; ++share)
      c_.kernels.add(grad, partial(share) + offset + mine.begin, grad, mine.end - mine.begin);
  }

  const OpContext& c_;
  bool centered_;
  float eps_;
  int64_t n_;  // of a group
  Tensor x_;
  const float* weight_;
  Tensor dy_;
  int64_t shares_;
  float *u_ = nullptr, *du_ = nullptr, *ones_ = nullptr;
};

}  // namespace

size_t scratch_norm_grad(const Graph&, const Node& node, int64_t) {
  return 3 * padded_floats(std::get<NormAttrs>(node.attrs).group) * sizeof(float);
}

size_t shared_norm_grad(const Graph&, const Node& node, int) {
  return static_cast<size_t>(kMostShares) * 2 * padded_floats(std::get<NormAttrs>(node.attrs).group) * sizeof(float);
}

void run_rms_norm_grad(const OpContext& c) { NormGrad(c, false).run(); }
void run_layer_norm_grad(const OpContext& c) { NormGrad(c, true).run(); }

void run_softmax_grad(const OpContext& c) {
  const Tensor y = c.in(0), dy = c.in(1), dx = c.out();
  const int64_t n = y.shape.last();
  const auto dot = c.kernels.dot_f32[static_cast<size_t>(DType::kF32)];
  const Range rows = c.my_range(y.shape[0]);
  for (int64_t at = rows.begin * n; at < rows.end * n; at += n) {
    float sum = 0;
    float* to = &sum;
    const void* x = dy.f32() + at;
    dot({y.f32() + at, 0, n, 1, &x, 1, &to});
    c.kernels.mul(y.f32() + at, dy.f32() + at, dx.f32() + at, n);
    c.kernels.axpy(-sum, y.f32() + at, dx.f32() + at, n);
  }
}

}  // namespace moe::cpu

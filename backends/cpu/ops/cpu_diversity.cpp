// diversity_grad: two products of the experts' matrices, each seen as one row of n = o·i numbers.
//
//   gram (E, E) = W Wᵀ     by blocks of columns: float32 within some thousand columns, then double
//   grad (E, n) += A · W   A (E, E): what dloss/dw is of all w, from gram alone
#include <algorithm>
#include <cmath>

#include "backends/cpu/gemm.h"
#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

constexpr int64_t kColumns = 2048;               // summed in float32
constexpr int64_t kMostBlocks = 64;              // of columns: what threads share
constexpr int64_t kMostSums = int64_t{1} << 21;  // in the memory of all blocks, where experts are many

int64_t block_count(int64_t E) { return std::clamp<int64_t>(kMostSums / (E * E), 1, kMostBlocks); }

class Diversity {
 public:
  explicit Diversity(const OpContext& c)
      : c_(c), w_(c.in(0).f32()), E_(c.in(0).shape[0]), n_(c.in(0).shape.row_elements()), strength_(c.in(2).f32()[0]) {
    const auto squares = static_cast<size_t>(E_ * E_);
    gemm_scratch_ = c.scratch.take<std::byte>(kMostGemmScratch);
    small_ = c.scratch.take<float>(squares);
    cosines_ = c.scratch.take<double>(squares);
    inverse_ = c.scratch.take<double>(static_cast<size_t>(E_));
    blocks_ = reinterpret_cast<double*>(c.shared);
  }

  void run() {
    c_.barrier();  // with the op before, about the shared memory
    const Range mine = c_.my_range(block_count(E_));
    for (int64_t b = mine.begin; b < mine.end; ++b) add_products(b);
    c_.barrier();
    find_cosines();
    if (c_.part == 0) c_.out().f32()[0] = static_cast<float>(loss());
    if (c_.has(1) && strength_ != 0) add_gradient();
  }

 private:
  void add_products(int64_t block) {
    const Range columns = split_range(n_, static_cast<int>(block), static_cast<int>(block_count(E_)));
    double* sums = blocks_ + block * E_ * E_;
    std::fill_n(sums, E_ * E_, 0.0);
    for (int64_t i = columns.begin; i < columns.end; i += kColumns) {
      const int64_t k = std::min(kColumns, columns.end - i);
      gemm_alone(c_.kernels, DType::kF32, {E_, E_, k, w_ + i, w_ + i, small_, n_, n_, E_, false, true, false, gemm_scratch_});
      for (int64_t j = 0; j < E_ * E_; ++j) sums[j] += double{small_[j]};
    }
  }

  // Every part on its own: from the sums of all blocks, in their order.
  void find_cosines() {
    std::fill_n(cosines_, E_ * E_, 0.0);
    for (int64_t b = 0; b < block_count(E_); ++b)
      for (int64_t j = 0; j < E_ * E_; ++j) cosines_[j] += blocks_[b * E_ * E_ + j];
    for (int64_t e = 0; e < E_; ++e) inverse_[e] = cosines_[e * E_ + e] > 0 ? 1 / std::sqrt(cosines_[e * E_ + e]) : 0;
    for (int64_t e = 0; e < E_; ++e)
      for (int64_t f = 0; f < E_; ++f) cosines_[e * E_ + f] *= e == f ? 0 : inverse_[e] * inverse_[f];
  }

  double loss() const {
    double sum = 0;
    for (int64_t j = 0; j < E_ * E_; ++j) sum += cosines_[j] * cosines_[j];
    return sum / pairs();
  }

  void add_gradient() {
    const double factor = 4 * double{strength_} / pairs();
    for (int64_t e = 0; e < E_; ++e) {
      double squares = 0;
      for (int64_t f = 0; f < E_; ++f) {
        const double c = cosines_[e * E_ + f];
        squares += c * c;
        small_[e * E_ + f] = static_cast<float>(factor * c * inverse_[e] * inverse_[f]);
      }
      small_[e * E_ + e] = static_cast<float>(-factor * squares * inverse_[e] * inverse_[e]);
    }
    const GemmArgs product{E_, n_, E_, small_, w_, c_.in(1).f32(), E_, n_, n_, false, false, true, nullptr};
    gemm_part(c_.kernels, DType::kF32, {&product, 1}, c_.part, c_.parts, gemm_scratch_);
  }

  double pairs() const { return static_cast<double>(std::max<int64_t>(E_ * (E_ - 1), 1)); }

  const OpContext& c_;
  const float* w_;  // (E, n)
  const int64_t E_, n_;
  const float strength_;
  std::byte* gemm_scratch_;
  float* small_;     // (E, E) products of some columns; then A
  double* cosines_;  // (E, E), 0 on the diagonal
  double* inverse_;  // (E) 1 / |w_e|, or 0
  double* blocks_;   // (blocks, E, E) shared
};

}  // namespace

size_t scratch_diversity_grad(const Graph& g, const Node& node, int64_t) {
  const auto E = static_cast<size_t>(g.value(node.in[0]).shape[0]);
  return align_up(kMostGemmScratch) + align_up(E * E * sizeof(float)) + align_up(E * E * sizeof(double)) +
         align_up(E * sizeof(double));
}

size_t shared_diversity_grad(const Graph& g, const Node& node, int) {
  const int64_t E = g.value(node.in[0]).shape[0];
  return static_cast<size_t>(block_count(E) * E * E) * sizeof(double);
}

void run_diversity_grad(const OpContext& c) {
  Arena::Frame frame(c.scratch);
  Diversity(c).run();
}

}  // namespace moe::cpu

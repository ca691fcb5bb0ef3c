// Asking for what a product will pack next while it multiplies. Packing reads at the speed of memory and does nothing else, so
// unless its rows are in the second-level cache by then it takes a quarter of a product of training; and where rows are named
// by a list, no prefetcher of a processor foresees them.
#pragma once

#include "backends/cpu/gemm/gemm_pack.inl"

namespace moe::cpu {
namespace {

// The rows of a side as they are stored, one line of cache after another.
template <class In>
class GemmAhead {
 public:
  explicit GemmAhead(const GemmSide<In>& side)
      : side_(side), rows_(side.lines_are_rows ? side.lines : side.k), width_(side.lines_are_rows ? side.k : side.lines) {}

  // Lines to ask for with each of `calls` calls.
  int64_t share(int64_t calls) const { return (rows_ * ((width_ + kLine - 1) / kLine) + calls - 1) / calls; }

  void ask(int64_t lines) {
    while (lines > 0 && row_ < rows_) {
      const In* from = side_.row(row_);
      for (; at_ < width_ && lines > 0; at_ += kLine, --lines) __builtin_prefetch(from + at_, 0, 2);
      if (at_ >= width_) at_ = 0, ++row_;
    }
  }

 private:
  static constexpr int64_t kLine = 64 / sizeof(In);
  GemmSide<In> side_;
  int64_t rows_, width_;
  int64_t row_ = 0, at_ = 0;
};

// Rows [first, first + n) of a block of C, the columns of one tile.
inline void ask_for_tile(float* c, int64_t ldc, const int32_t* order, int64_t first, int64_t n, int64_t columns) {
  for (int64_t r = first; r < first + n; ++r) {
    const float* row = c + (order ? order[r] : r) * ldc;
    for (int64_t j = 0; j < columns; j += 16) __builtin_prefetch(row + j, 1);
  }
}

}  // namespace
}  // namespace moe::cpu

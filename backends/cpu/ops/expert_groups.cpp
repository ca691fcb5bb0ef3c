#include "backends/cpu/ops/expert_groups.h"

#include <algorithm>
#include <bit>

namespace moe::cpu {

Groups::Groups(const Tensor& ids, int64_t n_experts, Arena& scratch) {
  const int64_t n = ids.shape.elements(), n_words = (n_experts + 63) / 64;
  int32_t* end = scratch.take<int32_t>(static_cast<size_t>(n_experts));
  uint64_t* used = scratch.take<uint64_t>(static_cast<size_t>(n_words));  // a bit an expert: most of 1,000 are idle
  pairs = scratch.take<int32_t>(static_cast<size_t>(n));
  active = scratch.take<Group>(static_cast<size_t>(std::min(n, n_experts)));
  std::fill_n(used, n_words, 0);
  for (int64_t i = 0; i < n; ++i) {
    const int32_t e = ids.i32()[i];
    MOE_CHECK(e < n_experts);
    if (e < 0) continue;
    const uint64_t bit = uint64_t{1} << (e % 64);
    end[e] = used[e / 64] & bit ? end[e] + 1 : 1;
    used[e / 64] |= bit;
  }
  int32_t total = 0;
  for (int64_t word = 0; word < n_words; ++word)
    for (uint64_t left = used[word]; left; left &= left - 1) {
      const auto e = static_cast<int32_t>(word * 64 + std::countr_zero(left));
      active[n_active++] = {e, total, end[e]};
      total += end[e];
      end[e] = total - end[e];
    }
  n_pairs = total;
  for (int64_t i = 0; i < n; ++i)
    if (const int32_t e = ids.i32()[i]; e >= 0) pairs[end[e]++] = static_cast<int32_t>(i);
}

size_t scratch_groups(size_t n_slots, size_t n_experts) {
  return align_up(n_experts * sizeof(int32_t)) + align_up((n_experts + 63) / 64 * sizeof(uint64_t)) +
         align_up(n_slots * sizeof(int32_t)) + align_up(std::min(n_slots, n_experts) * sizeof(Groups::Group));
}

}  // namespace moe::cpu

// The part of a stacked tensor (E, …) that stays when experts go and the others get narrower, as runs of its bytes. Blocks of
// the storage format are copied as they are; nothing is decoded.
//
//   stack   │ expert 0 │ expert 1 │ expert 2 │        experts = {0, 2}
//   expert  │▓▓▓▓░░░░▓▓▓▓░░░░│                        one Run: bytes ▓, stride ▓ + ░, count 2
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "models/io/gguf.h"

namespace moe {

struct CarvedLayer;

struct ExpertCut {
  struct Run {  // of one expert: `count` times `bytes`, `stride` apart, the first at `offset`
    uint64_t offset, bytes, stride, count;
  };
  std::span<const std::byte> data;  // of the whole tensor
  uint64_t expert_bytes = 0;        // in data
  std::vector<int32_t> experts;     // that stay, ascending
  std::vector<Run> runs;

  uint64_t bytes() const;  // that stay
  // Bytes [offset, offset + out.size()) of what stays.
  void gather(uint64_t offset, std::span<std::byte> out) const;
};

struct CutTensor {
  std::vector<int64_t> shape;  // of what stays, outermost first; empty: nothing
  ExpertCut cut;
};

// Whether a tensor of a layer, by its name behind "blk.3.", belongs to the routed experts or their router.
bool is_expert_tensor(std::string_view suffix);

// What stays of such a tensor of a layer whose experts have d_ff hidden channels before. kUnsupported for stacks of a kind that
// is not known, kCorrupt for a shape that does not fit.
Result<CutTensor> cut_tensor(const TensorInfo& tensor, std::string_view suffix, const CarvedLayer& layer, int d_ff);

}  // namespace moe

// Greedy by size: the largest values choose first, each takes the lowest gap that is free while it lives ("Greedy by Size for
// Offset Calculation" of Pisarchyk and Lee, "Efficient memory management for deep neural net inference", arXiv 2001.03288). No
// plan can be smaller than the largest set of values that live together; on a stack of layers this one is larger by no more
// than one value of the residual stream, because the sums of two layers meet while the wide hidden rows want to stay where they
// were.
#include "tensor/plan.h"

#include <algorithm>

namespace moe {
namespace {

struct Block {  // a temp, from the phase of its writer to that of its last reader, both included
  size_t value;
  size_t bytes;
  int begin, end;
  size_t offset = 0;

  bool meets(const Block& o) const { return begin <= o.end && o.begin <= end; }
};

size_t align(size_t n) { return (n + kPlanAlignment - 1) / kPlanAlignment * kPlanAlignment; }

std::vector<Block> live_blocks(const Graph& g, std::span<const int> phase, int64_t max_tokens, int64_t max_outputs) {
  std::vector<Block> blocks;
  std::vector<size_t> block_of(g.values.size(), MemoryPlan::kNoOffset);
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    for (const ValueId id : g.nodes[i].in) {
      if (id == kNone || block_of[static_cast<size_t>(id)] == MemoryPlan::kNoOffset) continue;
      int& end = blocks[block_of[static_cast<size_t>(id)]].end;
      end = std::max(end, phase[i]);  // an output outlives its readers
    }
    for (const ValueId id : g.nodes[i].out) {
      const Value& v = g.value(id);
      block_of[static_cast<size_t>(id)] = blocks.size();
      blocks.push_back({static_cast<size_t>(id), align(value_bytes(v, max_tokens, max_outputs)), phase[i],
                        v.output ? phase.back() : phase[i]});
    }
  }
  return blocks;
}

// The lowest offset where b fits between the neighbours, which are sorted by offset.
size_t first_fit(const Block& b, const std::vector<const Block*>& neighbours) {
  size_t offset = 0;
  for (const Block* n : neighbours) {
    if (offset + b.bytes <= n->offset) break;
    offset = std::max(offset, n->offset + n->bytes);
  }
  return offset;
}

}  // namespace

size_t value_bytes(const Value& v, int64_t n_tokens, int64_t n_outputs) {
  if (v.shape.rank == 0) return dtype_bytes(v.dtype, 1);
  Shape s = v.shape;
  s.dim[0] = s.per_token() ? n_tokens : s.per_output() ? n_outputs : s[0];
  if (s.rank == 1) return dtype_bytes(v.dtype, s[0]);
  return dtype_bytes(v.dtype, s.row_elements()) * static_cast<size_t>(s[0]);
}

MemoryPlan plan_memory(const Graph& g, std::span<const int> phase, int64_t max_tokens, int64_t max_outputs) {
  MOE_CHECK(phase.size() == g.nodes.size() && std::is_sorted(phase.begin(), phase.end()));
  std::vector<Block> blocks = live_blocks(g, phase, max_tokens, max_outputs);
  std::stable_sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) { return a.bytes > b.bytes; });

  MemoryPlan plan;
  plan.offset.assign(g.values.size(), MemoryPlan::kNoOffset);
  std::vector<const Block*> placed, neighbours;  // placed: by offset
  for (Block& b : blocks) {
    neighbours.clear();
    std::copy_if(placed.begin(), placed.end(), std::back_inserter(neighbours), [&](const Block* p) { return p->meets(b); });
    b.offset = first_fit(b, neighbours);
    const auto by_offset = [](const Block* x, const Block* y) { return x->offset < y->offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &b, by_offset), &b);
    plan.offset[b.value] = b.offset;
    plan.arena_bytes = std::max(plan.arena_bytes, b.offset + b.bytes);
  }
  return plan;
}

}  // namespace moe

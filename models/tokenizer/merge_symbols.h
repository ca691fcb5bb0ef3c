// The merging loop that byte-level BPE and SentencePiece share: neighbouring symbols are merged, the best pair first and the
// leftmost of equals, until no pair is left. A heap of candidate pairs over a linked list of symbols keeps it O(n log n), so
// that a megabyte of one letter is no slower than a megabyte of prose.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "models/tokenizer/tokenizer_data.h"

namespace moe {

struct Symbol {
  Token token;             // kNoToken: none; the meaning of other numbers is the caller's
  uint32_t begin, size;    // place in the text; size 0 once merged into the symbol on the left
  int32_t previous, next;  // -1 at the ends
};

// What a pair of neighbours would become.
struct Merge {
  uint32_t order;  // smaller merges first
  Token token;
};

// Scratch of one call, kept between calls for its memory.
struct MergeScratch {
  struct Candidate {
    uint64_t key;  // order << 32 | left: the heap's top is the best, leftmost pair
    int32_t right;
    uint32_t size;  // of both; another one by now means that the pair is gone
    Token token;
    bool operator<(const Candidate& other) const { return key > other.key; }
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;

  void add_symbol(Token token, uint32_t begin, uint32_t size) {
    const auto i = static_cast<int32_t>(symbols.size());
    if (i > 0) symbols.back().next = i;
    symbols.push_back({token, begin, size, i - 1, -1});
  }
};

// `merge_of(left, right, merge)` fills `merge` and returns true when the two symbols may merge.
template <class MergeOf>
void merge_symbols(MergeScratch& scratch, MergeOf merge_of) {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto symbol = [&](int32_t i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };
  const auto propose = [&](int32_t left, int32_t right) {
    Merge merge;
    if (left < 0 || right < 0 || !merge_of(symbol(left), symbol(right), merge)) return false;
    heap.push_back({static_cast<uint64_t>(merge.order) << 32 | static_cast<uint32_t>(left), right,
                    symbol(left).size + symbol(right).size, merge.token});
    return true;
  };

  heap.clear();
  for (int32_t right = 1; right < static_cast<int32_t>(symbols.size()); ++right) propose(right - 1, right);
  std::make_heap(heap.begin(), heap.end());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const MergeScratch::Candidate best = heap.back();
    heap.pop_back();
    const auto left_index = static_cast<int32_t>(best.key & 0xFFFFFFFF);
    Symbol &left = symbol(left_index), &right = symbol(best.right);
    if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
    left.token = best.token;
    left.size += right.size;
    left.next = right.next;
    right.size = 0;
    if (left.next >= 0) symbol(left.next).previous = left_index;
    if (propose(left.previous, left_index)) std::push_heap(heap.begin(), heap.end());
    if (propose(left_index, left.next)) std::push_heap(heap.begin(), heap.end());
  }
}

}  // namespace moe

// How the rows of a product are cut: into chunks that threads take, and those into calls of a kernel.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/threads.h"

namespace moe::cpu {

inline constexpr int64_t kRowGrain = 32;  // rows that kernels like to take together; 32 floats of y are whole cache lines

// What one call of a product takes at most. Its tokens stay in the second-level cache while the rows pass (128 x 2048 elements
// are 0.4 MB), and its outputs until what follows has read them; longer calls read x from the third level for every panel of
// rows, shorter ones make more panels (qwen3moe q4_k, 512 tokens, AVX-512: 64 and 128 tokens alike, 512 tokens 12 % slower).
inline constexpr int64_t kCallTokens = 128;
inline constexpr int64_t kCallFloats = 16384;

inline int64_t rows_of_call(int64_t n_tokens) {
  static_assert(kCallFloats / kCallTokens >= kRowGrain);
  return kCallFloats / std::max<int64_t>(1, n_tokens) / kRowGrain * kRowGrain;
}

// Chunks for threads that take the next one whenever they are done: long ones first, so that a call of a kernel reads a long
// run of memory, short ones last, so that nobody waits long at the barrier that follows.
//
//   2 parts, 2048 rows:  | 512 | 384 | 288 | 224 | 160 | 128 | 96 | 64 | 64 | 64 | 64 |
//
// Each chunk is the rest divided by twice the number of parts (the idea of factoring: Hummel, Schonberg and Flynn, CACM 35(8),
// 1992). A fixed split is as good on an idle machine; this one also forgives a thread that comes late, or a neighbour that
// takes memory's time.
class FallingChunks {
 public:
  // Chunks of at least 64 rows where there are as many, and at most `most`, all but the last multiples of kRowGrain.
  FallingChunks(int64_t n, int parts, int64_t most = INT64_MAX) : n_(n), parts_(parts), most_(std::max(most, kLeast)) {}

  // Chunk `task`; empty behind the last one. Asked for in ascending order only.
  Range at(int64_t task) {
    for (; next_ <= task && now_.end < n_; ++next_) now_ = {now_.end, std::min(n_, now_.end + size(n_ - now_.end))};
    return task < next_ ? now_ : Range{n_, n_};
  }

 private:
  static constexpr int64_t kLeast = 64;

  int64_t size(int64_t rest) const {
    const int64_t share = parts_ == 1 ? rest : rest / (2 * parts_);
    return std::clamp((share + kRowGrain - 1) / kRowGrain * kRowGrain, kLeast, most_);
  }

  int64_t n_;
  int parts_;
  int64_t most_;
  int64_t next_ = 0;
  Range now_{0, 0};
};

}  // namespace moe::cpu

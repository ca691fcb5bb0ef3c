// A counter-based generator: value i of stream s under seed k is a pure function of (k, s, i), so that results do not depend on
// the number of threads, the order of draws or the platform. Philox 4x32-10 (Salmon et al., SC'11, "Parallel random numbers: as
// easy as 1, 2, 3"). Distributions are our own: <random>'s differ between standard libraries.
#pragma once

#include <cstdint>

namespace moe {

struct Philox4 {
  uint32_t v[4];
};
Philox4 philox4x32(uint64_t key, uint64_t counter_low, uint64_t counter_high);

// A cursor over one stream. A value type; not thread-safe, give each thread its own stream.
class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  uint32_t next_u32();
  uint64_t next_u64();
  float uniform();             // [0, 1), 24 bits
  double uniform_double();     // [0, 1), 53 bits
  float normal();              // mean 0, deviation 1 (Box-Muller over mathx.h)
  uint64_t below(uint64_t n);  // [0, n), unbiased; n ≥ 1
  uint64_t position() const { return index_; }
  void seek(uint64_t position) {  // the next draw is number `position` of the stream
    index_ = position;
    block_valid_ = false;
  }

 private:
  uint64_t seed_, stream_, index_ = 0;  // index_ counts 32-bit draws
  Philox4 block_{};                     // the block that index_ is inside of, once block_valid_
  bool block_valid_ = false;
};

// A seed for a user who gave none, from the operating system; callers print it.
uint64_t random_seed();

}  // namespace moe

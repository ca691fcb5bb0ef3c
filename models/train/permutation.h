// A shuffle of 0 … n−1 that is computed, not kept: 16 bytes for billions of documents.
//
// A Feistel network permutes the numbers of 2b bits, 2^(2b) ≥ n; a result that is n or more goes through again until it is
// below (cycle walking, Black and Rogaway, "Ciphers with arbitrary finite domains", 2002, section 4). Fewer than 4 rounds of
// walking on average. Six Feistel rounds with a 64-bit mixer: no cryptography, but no pattern a training run could see.
#pragma once

#include <bit>
#include <cstdint>

#include "core/check.h"

namespace moe {

class Permutation {
 public:
  Permutation(uint64_t n, uint64_t key) : n_(n), key_(key) {
    const int bits = n > 1 ? std::bit_width(n - 1) : 0;
    half_ = (bits + 1) / 2;
    mask_ = (uint64_t{1} << half_) - 1;
  }

  // i < n
  uint64_t operator()(uint64_t i) const {
    MOE_CHECK(i < n_);
    if (half_ == 0) return 0;  // n = 1
    do i = encrypt(i);
    while (i >= n_);
    return i;
  }

 private:
  uint64_t encrypt(uint64_t x) const {
    uint64_t left = x >> half_, right = x & mask_;
    for (uint64_t round = 1; round <= 6; ++round) {
      const uint64_t next = left ^ (mix(right + key_ + round * 0x9E3779B97F4A7C15u) & mask_);
      left = right, right = next;
    }
    return left << half_ | right;
  }
  // MurmurHash3's finaliser
  static uint64_t mix(uint64_t h) {
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDu;
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53u;
    return h ^ h >> 33;
  }

  uint64_t n_, key_;
  int half_ = 0;
  uint64_t mask_ = 0;
};

}  // namespace moe

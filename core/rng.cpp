// Philox 4x32-10 and the distributions over it. Layout of the counter: the low 64 bits number the blocks of a stream, the high
// 64 bits name the stream; the key is the seed. Draw i of a stream is word i mod 4 of block i / 4.
#include "core/rng.h"

#include <chrono>
#include <cmath>
#include <exception>
#include <random>

#include "core/check.h"
#include "core/mathx.h"

namespace moe {
namespace {

// Multipliers and Weyl increments: Salmon et al., SC'11, section 4.3 and their Random123 library.
constexpr uint32_t kMultiplier0 = 0xd2511f53u, kMultiplier1 = 0xcd9e8d57u;
constexpr uint32_t kWeyl0 = 0x9e3779b9u, kWeyl1 = 0xbb67ae85u;
constexpr int kRounds = 10;

uint32_t low32(uint64_t x) { return static_cast<uint32_t>(x); }
uint32_t high32(uint64_t x) { return static_cast<uint32_t>(x >> 32); }

}  // namespace

Philox4 philox4x32(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  uint32_t k0 = low32(key), k1 = high32(key);
  Philox4 c{{low32(counter_low), high32(counter_low), low32(counter_high), high32(counter_high)}};
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t p0 = uint64_t{kMultiplier0} * c.v[0];
    const uint64_t p1 = uint64_t{kMultiplier1} * c.v[2];
    c = {{high32(p1) ^ c.v[1] ^ k0, low32(p1), high32(p0) ^ c.v[3] ^ k1, low32(p0)}};
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return c;
}

uint32_t Rng::next_u32() {
  const uint64_t word = index_ % 4;
  if (word == 0 || !block_valid_) {
    block_ = philox4x32(seed_, index_ / 4, stream_);
    block_valid_ = true;
  }
  ++index_;
  return block_.v[word];
}

uint64_t Rng::next_u64() {
  const uint64_t low = next_u32();
  return low | static_cast<uint64_t>(next_u32()) << 32;
}

float Rng::uniform() { return static_cast<float>(next_u32() >> 8) * 0x1p-24f; }

double Rng::uniform_double() { return static_cast<double>(next_u64() >> 11) * 0x1p-53; }

// Always two draws, so that position i of a stream keeps its meaning. The radius comes from (0, 1): at most 6.8 deviations.
float Rng::normal() {
  const double u = (static_cast<double>(next_u32()) + 0.5) * 0x1p-32;
  const double turn = static_cast<double>(next_u32()) * 0x1p-32;
  return static_cast<float>(std::sqrt(-2.0 * mathx::log(u)) * mathx::cos_2pi(turn));
}

// The lowest 2^64 mod n values are drawn again: what is left divides evenly by n.
uint64_t Rng::below(uint64_t n) {
  MOE_CHECK(n >= 1);
  const uint64_t surplus = (0 - n) % n;
  for (;;) {
    const uint64_t x = next_u64();
    if (x >= surplus) return x % n;
  }
}

uint64_t random_seed() {
  try {
    std::random_device device;
    return static_cast<uint64_t>(device()) << 32 | device();
  } catch (const std::exception&) {  // no entropy source (a bare chroot): the clock is the best that is left
    const auto now = std::chrono::high_resolution_clock::now().time_since_epoch().count();
    const Philox4 mixed = philox4x32(static_cast<uint64_t>(now), 0, 0);
    return static_cast<uint64_t>(mixed.v[0]) << 32 | mixed.v[1];
  }
}

}  // namespace moe

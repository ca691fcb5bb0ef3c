#include "core/rng.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "core/check.h"
#include "core/half.h"

using moe::Philox4;
using moe::philox4x32;
using moe::Rng;

namespace {

void check_words(const Philox4& p, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  CHECK(p.v[0] == a);
  CHECK(p.v[1] == b);
  CHECK(p.v[2] == c);
  CHECK(p.v[3] == d);
}

}  // namespace

// Random123, tests/kat_vectors, "philox4x32 10".
TEST_CASE("Philox 4x32-10 gives the known answers of its authors") {
  check_words(philox4x32(0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  check_words(philox4x32(~0ull, ~0ull, ~0ull), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  check_words(philox4x32(0x299f31d0a4093822ull, 0x85a308d3243f6a88ull, 0x0370734413198a2eull), 0xd16cfe09, 0x94fdcceb,
              0x5001e420, 0x24126ea1);
}

TEST_CASE("draw i of a stream is word i mod 4 of block i / 4") {
  Rng rng(42, 7);
  for (uint64_t i = 0; i < 19; ++i) {
    CHECK(rng.position() == i);
    CHECK(rng.next_u32() == philox4x32(42, i / 4, 7).v[i % 4]);
  }
}

TEST_CASE("seek goes to any draw, also into the middle of a block") {
  Rng straight(1, 2);
  std::vector<uint32_t> draws(40);
  for (uint32_t& d : draws) d = straight.next_u32();
  Rng jumping(1, 2);
  for (const uint64_t i : {39, 0, 17, 18, 3, 2, 1, 20}) {
    jumping.seek(i);
    CHECK(jumping.next_u32() == draws[i]);
    CHECK(jumping.position() == i + 1);
  }
}

TEST_CASE("a 64-bit draw is two 32-bit draws, the lower half first") {
  Rng words(5), pairs(5);
  words.next_u32();
  pairs.next_u32();
  for (int i = 0; i < 5; ++i) {
    const uint64_t low = words.next_u32();
    const uint64_t high = words.next_u32();
    CHECK(pairs.next_u64() == (high << 32 | low));
  }
}

TEST_CASE("streams and seeds give different draws") {
  CHECK(Rng(1, 0).next_u64() != Rng(1, 1).next_u64());
  CHECK(Rng(1, 0).next_u64() != Rng(2, 0).next_u64());
  CHECK(Rng(1ull << 32).next_u64() != Rng(0, 1).next_u64());
}

TEST_CASE("uniform draws stay in [0, 1) with mean 1/2 and variance 1/12") {
  Rng rng(123);
  constexpr int kDraws = 100000;
  double sum = 0, squares = 0, sum_double = 0, lowest = 1, highest = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.uniform();
    const double y = rng.uniform_double();
    sum += x;
    squares += x * x;
    sum_double += y;
    lowest = std::fmin(lowest, std::fmin(x, y));
    highest = std::fmax(highest, std::fmax(x, y));
  }
  const double deviation_of_mean = std::sqrt(1.0 / 12 / kDraws);
  CHECK(lowest >= 0);
  CHECK(highest < 1);
  CHECK(std::fabs(sum / kDraws - 0.5) < 4 * deviation_of_mean);
  CHECK(std::fabs(sum_double / kDraws - 0.5) < 4 * deviation_of_mean);
  CHECK(std::fabs(squares / kDraws - 1.0 / 3) < 4 * std::sqrt(4.0 / 45 / kDraws));
}

TEST_CASE("normal draws have the moments and tails of the normal distribution") {
  Rng rng(2024);
  constexpr int kDraws = 200000;
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
  int beyond_2 = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.normal();
    m1 += x;
    m2 += x * x;
    m3 += x * x * x;
    m4 += x * x * x * x;
    beyond_2 += std::fabs(x) > 2;
  }
  // Variances of the sample moments: 1, 2, 15, 96 over n; P(|x| > 2) = 0.0455.
  const double n = kDraws;
  CHECK(std::fabs(m1 / n) < 4 * std::sqrt(1 / n));
  CHECK(std::fabs(m2 / n - 1) < 4 * std::sqrt(2 / n));
  CHECK(std::fabs(m3 / n) < 4 * std::sqrt(15 / n));
  CHECK(std::fabs(m4 / n - 3) < 4 * std::sqrt(96 / n));
  CHECK(std::fabs(beyond_2 / n - 0.0455) < 4 * std::sqrt(0.0455 / n));
}

TEST_CASE("a normal draw always takes two 32-bit draws") {
  Rng rng(9);
  for (uint64_t i = 1; i <= 10; ++i) {
    rng.normal();
    CHECK(rng.position() == 2 * i);
  }
}

TEST_CASE("below(n) reaches every value of [0, n) equally often and none beyond") {
  Rng rng(77);
  constexpr int kValues = 7, kDraws = 70000;
  int count[kValues] = {};
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t x = rng.below(kValues);
    REQUIRE(x < kValues);
    ++count[x];
  }
  double chi_square = 0;
  for (int c : count) chi_square += (c - 10000.0) * (c - 10000.0) / 10000.0;
  CHECK(chi_square < 22.5);  // 6 degrees of freedom, p = 0.001
}

TEST_CASE("below(1) is 0, below of a huge n rejects what would be uneven, below(0) is a bug") {
  Rng rng(3);
  CHECK(rng.below(1) == 0);
  const uint64_t n = (1ull << 63) + 1;  // almost every second draw is rejected
  const uint64_t before = rng.position();
  for (int i = 0; i < 100; ++i) CHECK(rng.below(n) < n);
  CHECK(rng.position() - before > 300);
  CHECK_THROWS_AS(rng.below(0), moe::BugError);
}

TEST_CASE("two random seeds differ") { CHECK(moe::random_seed() != moe::random_seed()); }

#include "models/train/permutation.h"

#include <doctest/doctest.h>

#include <set>
#include <vector>

using namespace moe;

TEST_CASE("a permutation reaches every number once") {
  for (const uint64_t n : {1, 2, 3, 4, 5, 15, 16, 17, 64, 65, 1000, 4097}) {
    for (uint64_t key = 0; key < 5; ++key) {
      const Permutation p(n, key);
      std::vector<bool> seen(n);
      for (uint64_t i = 0; i < n; ++i) {
        const uint64_t j = p(i);
        REQUIRE(j < n);
        CHECK_FALSE(seen[j]);
        seen[j] = true;
      }
    }
  }
}

TEST_CASE("keys give different orders, and an order has no pattern of neighbours") {
  constexpr uint64_t kN = 10000;
  std::set<uint64_t> firsts;
  for (uint64_t key = 0; key < 50; ++key) {
    const Permutation p(kN, key);
    firsts.insert(p(0));
    int neighbours = 0;
    for (uint64_t i = 1; i < kN; ++i) neighbours += p(i) == p(i - 1) + 1;
    CHECK(neighbours < 10);  // one is expected
  }
  CHECK(firsts.size() > 45);
}

TEST_CASE("a permutation of 2^62 numbers stays inside of them") {
  const uint64_t n = (uint64_t{1} << 62) - 1;
  const Permutation p(n, 3);
  for (uint64_t i = 0; i < 1000; ++i) CHECK(p(n - 1 - i) < n);
}

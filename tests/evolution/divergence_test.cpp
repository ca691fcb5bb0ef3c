// Divergences against sums by hand, and what is held within a budget.
#include "evolution/divergence.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/rng.h"
#include "evolution/byte_lru.h"

namespace moe {
namespace {

std::vector<float> random_logits(size_t n, uint64_t seed, float scale) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (float& v : x) v = scale * rng.normal();
  return x;
}

TEST_CASE("a row's divergence is Σ p (ln p − ln q) over the whole vocabulary") {
  for (const int V : {3, 16, 61, 1000}) {
    for (const float scale : {0.1f, 3.0f, 30.0f}) {
      CAPTURE(V);
      CAPTURE(scale);
      const size_t R = 7, n = static_cast<size_t>(V);
      const auto p = random_logits(R * n, 1, scale), q = random_logits(R * n, 2, scale);
      std::vector<Token> targets;
      for (size_t r = 0; r < R; ++r) targets.push_back(static_cast<Token>(r % n));
      ThreadPool pool(2);
      TeacherRows rows;
      REQUIRE(teach(p, V, pool, rows).ok());
      std::vector<RowScore> scores(R);
      REQUIRE(score_rows(q, V, &rows, targets, pool, scores).ok());
      for (size_t r = 0; r < R; ++r) {
        const auto lse = [&](const std::vector<float>& x) {
          double top = -1e30, sum = 0;
          for (size_t i = 0; i < n; ++i) top = std::max(top, static_cast<double>(x[r * n + i]));
          for (size_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[r * n + i]) - top);
          return top + std::log(sum);
        };
        double kl = 0;
        const double a = lse(p), b = lse(q);
        for (size_t i = 0; i < n; ++i) {
          const double ln_p = static_cast<double>(p[r * n + i]) - a, ln_q = static_cast<double>(q[r * n + i]) - b;
          kl += std::exp(ln_p) * (ln_p - ln_q);
        }
        CHECK(std::fabs(scores[r].kl - kl) <= 1e-6 * (1 + kl));
        CHECK(std::fabs(scores[r].nll - (b - static_cast<double>(q[r * n + r % n]))) <= 1e-6 * (1 + std::fabs(b)));
      }
      // Of the distribution itself: nothing but rounding of doubles.
      REQUIRE(score_rows(p, V, &rows, targets, pool, scores).ok());
      for (const RowScore& s : scores) CHECK(std::fabs(s.kl) < 1e-12);
    }
  }
}

TEST_CASE("divergences have the same bits for any number of threads, and need numbers") {
  const int V = 100;
  const auto p = random_logits(37 * 100, 1, 2), q = random_logits(37 * 100, 2, 2);
  const std::vector<Token> targets(37, 5);
  std::vector<RowScore> first(37), other(37);
  TeacherRows rows;
  ThreadPool one(1), three(3);
  REQUIRE(teach(p, V, one, rows).ok());
  REQUIRE(score_rows(q, V, &rows, targets, one, first).ok());
  REQUIRE(teach(p, V, three, rows).ok());
  REQUIRE(score_rows(q, V, &rows, targets, three, other).ok());
  for (size_t r = 0; r < first.size(); ++r) CHECK((first[r].kl == other[r].kl && first[r].nll == other[r].nll));
  for (const float bad : {std::nanf(""), INFINITY}) {
    auto broken = q;
    broken[17 * 100 + 3] = bad;
    const Status s = score_rows(broken, V, &rows, targets, one, first);
    CHECK(s.code() == StatusCode::kCorrupt);
    CHECK(s.message().find("row 17") != std::string::npos);
    CHECK(!teach(broken, V, one, rows).ok());
  }
}

TEST_CASE("what was used least recently goes first, and keys may be held without values") {
  ByteLru<int> lru(10);
  lru.add(1, 4, std::make_shared<const int>(11));
  lru.add(2, 4);
  CHECK(*lru.find(1) == 11);
  CHECK(lru.has(2));
  CHECK(lru.find(2) == nullptr);
  lru.fill(2, std::make_shared<const int>(22));
  lru.fill(3, std::make_shared<const int>(33));
  CHECK(*lru.find(2) == 22);
  CHECK(!lru.has(3));
  lru.touch(1);
  lru.add(4, 3);  // 2 goes
  CHECK(!lru.has(2));
  CHECK((lru.has(1) && lru.has(4)));
  CHECK(lru.bytes() == 7);
  lru.add(5, 11);  // never fits
  CHECK(!lru.has(5));
  lru.set_budget(3);
  CHECK((!lru.has(1) && lru.has(4)));
  lru.clear();
  CHECK((lru.bytes() == 0 && !lru.has(4)));
}

}  // namespace
}  // namespace moe

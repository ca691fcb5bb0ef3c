#include "evolution/credit.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace moe {
namespace {

double sum(std::span<const double> p) {
  double s = 0;
  for (const double v : p) s += v;
  return s;
}

TEST_CASE("probabilities follow the formula of probability matching") {
  OperatorCredit credit(4, {0.5, 0.2});
  for (const double p : credit.probabilities()) CHECK(p == doctest::Approx(0.25));
  credit.reward(0, 3), credit.reward(0, 1);  // mean 2, the largest
  credit.reward(1, 1);
  credit.reward(2, 0);
  credit.end_generation();  // r = 1, ½, 0, none; q = 1, ¾, ½, 1
  const double q[] = {1, 0.75, 0.5, 1};
  for (size_t i = 0; i < 4; ++i) CHECK(credit.probabilities()[i] == doctest::Approx(0.2 / 4 + 0.8 * q[i] / 3.25));
  CHECK(sum(credit.probabilities()) == doctest::Approx(1));
}

TEST_CASE("no operator falls below its floor, and the best one gets the rest") {
  OperatorCredit credit(5, {0.3, 0.25});
  for (int generation = 0; generation < 200; ++generation) {
    for (size_t op = 0; op < 5; ++op) credit.reward(op, op == 2 ? 1 : 0);
    credit.end_generation();
  }
  for (size_t op = 0; op < 5; ++op) CHECK(credit.probabilities()[op] >= 0.05 - 1e-12);
  CHECK(credit.probabilities()[2] > 0.79);
  CHECK(sum(credit.probabilities()) == doctest::Approx(1));
}

TEST_CASE("a generation without gains, and gains that are no numbers, change nothing") {
  OperatorCredit credit(3);
  credit.reward(0, std::numeric_limits<double>::quiet_NaN());
  credit.reward(1, -5);
  credit.reward(2, std::numeric_limits<double>::infinity());
  credit.end_generation();
  for (const double p : credit.probabilities()) CHECK(p == doctest::Approx(1.0 / 3));
}

TEST_CASE("draws follow the probabilities") {
  OperatorCredit credit(3, {1, 0.3});
  credit.reward(0, 1), credit.reward(1, 0.5), credit.reward(2, 0);
  credit.end_generation();
  Rng rng(7);
  constexpr int kDraws = 60000;
  double counts[3] = {};
  for (int i = 0; i < kDraws; ++i) ++counts[credit.draw(rng)];
  double chi2 = 0;
  for (size_t i = 0; i < 3; ++i) {
    const double wanted = kDraws * credit.probabilities()[i];
    chi2 += (counts[i] - wanted) * (counts[i] - wanted) / wanted;
  }
  CHECK(chi2 < 13.8);  // 2 degrees of freedom, p = 0.001
}

TEST_CASE("credit is saved and restored in the middle of a generation, and damage is refused") {
  OperatorCredit a(3), b(3);
  a.reward(1, 2), a.end_generation(), a.reward(2, 1);
  ByteWriter out;
  a.save(out);
  ByteReader in(out.bytes());
  REQUIRE(b.load(in).ok());
  for (OperatorCredit* c : {&a, &b}) c->reward(0, 0.5), c->end_generation();
  for (size_t i = 0; i < 3; ++i) CHECK(a.probabilities()[i] == b.probabilities()[i]);

  OperatorCredit other(4);
  ByteReader wrong(out.bytes());
  CHECK(other.load(wrong).code() == StatusCode::kCorrupt);
  for (size_t n = 0; n < out.size(); ++n) {
    const std::vector<std::byte> prefix(out.bytes().begin(), out.bytes().begin() + static_cast<std::ptrdiff_t>(n));
    ByteReader cut(prefix);
    OperatorCredit c(3);
    CHECK_FALSE(c.load(cut).ok());
    CHECK(c.probabilities()[0] == doctest::Approx(1.0 / 3));
  }
  ByteWriter bad;
  bad.write(uint32_t{1}), bad.write(2.0), bad.write(0.0), bad.write(uint64_t{0});
  ByteReader reader(bad.bytes());
  CHECK_FALSE(OperatorCredit(1).load(reader).ok());
}

}  // namespace
}  // namespace moe

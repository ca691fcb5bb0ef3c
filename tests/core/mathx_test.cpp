#include "core/mathx.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/rng.h"

namespace mathx = moe::mathx;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kTolerance = 1e-15;  // 4.5 ulp

uint64_t bits(double x) {
  uint64_t u;
  std::memcpy(&u, &x, sizeof u);
  return u;
}

double relative_error(double found, long double expected) {
  return static_cast<double>(std::fabs((static_cast<long double>(found) - expected) / expected));
}

// FNV-1a over the bits of f(x) for 20,000 fixed x in [low, high).
template <class F>
uint64_t fingerprint(F f, double low, double high) {
  moe::Rng rng(11);
  uint64_t hash = 0xcbf29ce484222325ull;
  for (int i = 0; i < 20000; ++i) {
    const double unit = rng.uniform_double();
    volatile double offset = unit * (high - low);  // volatile: not to be fused with the addition
    hash = (hash ^ bits(f(low + offset))) * 0x100000001b3ull;
  }
  return hash;
}

template <class F, class G>
double worst_error(F f, G expected, double low, double high) {
  moe::Rng rng(12);
  double worst = 0;
  for (int i = 0; i < 50000; ++i) {
    const double x = low + rng.uniform_double() * (high - low);
    worst = std::fmax(worst, relative_error(f(x), expected(x)));
  }
  return worst;
}

}  // namespace

TEST_CASE("exp agrees with the standard library") {
  const auto expected = [](double x) { return std::exp(static_cast<long double>(x)); };
  CHECK(worst_error(mathx::exp, expected, -1, 1) < kTolerance);
  CHECK(worst_error(mathx::exp, expected, -700, 700) < kTolerance);
  CHECK(worst_error(mathx::exp, expected, -1e-9, 1e-9) < kTolerance);
}

TEST_CASE("log agrees with the standard library, close to 1 and for subnormals too") {
  const auto expected = [](double x) { return std::log(static_cast<long double>(x)); };
  CHECK(worst_error(mathx::log, expected, 1e-300, 1e-290) < kTolerance);
  CHECK(worst_error(mathx::log, expected, 0, 2) < kTolerance);
  CHECK(worst_error(mathx::log, expected, 0.999, 1.001) < kTolerance);
  CHECK(worst_error(mathx::log, expected, 1, 1e300) < kTolerance);
  CHECK(worst_error(mathx::log, expected, 0x1p-1074, 0x1p-1040) < kTolerance);
}

TEST_CASE("sin_2pi and cos_2pi agree with the standard library") {
  constexpr long double kTwoPi = 6.283185307179586476925286766559005768L;
  moe::Rng rng(13);
  double worst = 0;
  for (int i = 0; i < 50000; ++i) {
    const double x = rng.uniform_double();
    const long double angle = kTwoPi * x;
    worst = std::fmax(worst, static_cast<double>(std::fabs(mathx::sin_2pi(x) - std::sin(angle))));
    worst = std::fmax(worst, static_cast<double>(std::fabs(mathx::cos_2pi(x) - std::cos(angle))));
  }
  CHECK(worst < 3e-16);
  CHECK(relative_error(mathx::sin_2pi(1e-12), std::sin(kTwoPi * 1e-12L)) < kTolerance);
}

TEST_CASE("quarters of a turn are exact") {
  const double sines[] = {0, 1, 0, -1};
  for (int i = 0; i < 8; ++i) {
    CHECK(mathx::sin_2pi(0.25 * i) == sines[i % 4]);
    CHECK(mathx::cos_2pi(0.25 * i) == sines[(i + 1) % 4]);
    CHECK(mathx::sin_2pi(-0.25 * i) == -sines[i % 4]);
  }
}

TEST_CASE("the ends of the domains give zero, infinity or NaN") {
  CHECK(mathx::exp(0) == 1);
  CHECK(mathx::exp(-kInfinity) == 0);
  CHECK(mathx::exp(kInfinity) == kInfinity);
  CHECK(mathx::exp(709.8) == kInfinity);
  CHECK(mathx::exp(-746) == 0);
  CHECK(relative_error(mathx::exp(709.78), std::exp(static_cast<long double>(709.78))) < kTolerance);
  CHECK(mathx::exp(-745) == 0x1p-1074);
  CHECK(std::isnan(mathx::exp(kNan)));
  CHECK(mathx::log(1) == 0);
  CHECK(mathx::log(0) == -kInfinity);
  CHECK(mathx::log(kInfinity) == kInfinity);
  CHECK(std::isnan(mathx::log(-1)));
  CHECK(std::isnan(mathx::log(kNan)));
  CHECK(std::isnan(mathx::sin_2pi(kInfinity)));
  CHECK(std::isnan(mathx::cos_2pi(kNan)));
}

// Recorded on x86-64 with GCC 12 -O2; any other platform, compiler or flag has to give the same.
TEST_CASE("the bits of every function are the recorded ones") {
  CHECK(bits(mathx::exp(1)) == 0x4005bf0a8b14576aull);
  CHECK(bits(mathx::log(10)) == 0x40026bb1bbb55516ull);
  CHECK(fingerprint(mathx::exp, -745, 709) == 0xdfdaef6cef1a3a3eull);
  CHECK(fingerprint(mathx::exp, -1, 1) == 0x386207702dd0dfaeull);
  CHECK(fingerprint(mathx::log, 0, 2) == 0xaaf5904edf60a69eull);
  CHECK(fingerprint(mathx::log, 0, 1e300) == 0x986ba751f823c6a2ull);
  CHECK(fingerprint(mathx::sin_2pi, 0, 1) == 0xd03eb82014d37e98ull);
  CHECK(fingerprint(mathx::cos_2pi, 0, 1) == 0x21f3c5431858a29dull);
}

TEST_CASE("the bits of the random distributions are the recorded ones") {
  moe::Rng rng(99, 3);
  uint64_t hash = 0xcbf29ce484222325ull;
  for (int i = 0; i < 20000; ++i) {
    const double parts[] = {rng.normal(), rng.uniform(), rng.uniform_double(), static_cast<double>(rng.below(1000003))};
    for (double p : parts) hash = (hash ^ bits(p)) * 0x100000001b3ull;
  }
  CHECK(hash == 0x867b82758d55bcadull);
}

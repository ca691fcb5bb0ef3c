// exp, log, sin and cos as Taylor series after exact range reduction. The coefficients are the plain 1/n of the series, so that
// nothing here has to be believed: the reduced arguments are small enough for the first omitted term to be below 2^-57.
//
// Same bits everywhere needs one precaution: a compiler may fuse a·b + c into one rounding where the target has FMA (GCC does
// by default). Every product that meets an addition therefore passes through rounded().
#include "core/mathx.h"

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace moe::mathx {
namespace {

static_assert(FLT_EVAL_METHOD == 0, "needs double arithmetic without excess precision (x86: SSE2, not x87)");

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// ln 2 in two parts: the upper one has 21 trailing zero bits, so that k · kLn2High is exact for every exponent k.
constexpr double kLn2High = 0x1.62e42feep-1;
constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
constexpr double kInverseLn2 = 0x1.71547652b82fep+0;
constexpr double kHalfPi = 0x1.921fb54442d18p+0;

// The value itself, opaque to the optimiser: what came in has been rounded to double and stays so. Costs no instruction.
inline double rounded(double x) {
#if defined(__x86_64__)
  __asm__("" : "+x"(x));
#elif defined(__aarch64__)
  __asm__("" : "+w"(x));
#else
  volatile double v = x;
  x = v;
#endif
  return x;
}

// c[0] + x·(c[1] + x·(c[2] + …)), last coefficient first.
template <int N>
inline double polynomial(const double (&c)[N], double x) {
  double sum = c[N - 1];
  for (int i = N - 2; i >= 0; --i) sum = rounded(sum * x) + c[i];
  return sum;
}

inline uint64_t bits_of(double x) {
  uint64_t u;
  std::memcpy(&u, &x, sizeof u);
  return u;
}

inline double double_of(uint64_t u) {
  double x;
  std::memcpy(&x, &u, sizeof x);
  return x;
}

// 2^k for the normal exponents, −1022 ≤ k ≤ 1023.
inline double power_of_two(int k) { return double_of(static_cast<uint64_t>(k + 1023) << 52); }

// 1/n! for n = 2 … 13: exp(r) = 1 + r + r²·polynomial(r), |r| ≤ ln2/2, omitted r^14/14! < 5e-18.
constexpr double kExp[] = {1.0 / 2,     1.0 / 6,      1.0 / 24,      1.0 / 120,      1.0 / 720,       1.0 / 5040,
                           1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};

// 2/(2n+1) for n = 1 … 10: 2·atanh(s) = 2s + s·z·polynomial(z) with z = s² ≤ 0.0295, omitted 2z^11/23 < 2e-18.
constexpr double kAtanh[] = {2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21};

// ±1/n! for n = 3, 5 … 17: sin(a) = a + a·z·polynomial(z), z = a² ≤ (π/4)², omitted a^18/19! < 2e-19 of the result.
constexpr double kSin[] = {-1.0 / 6,
                           1.0 / 120,
                           -1.0 / 5040,
                           1.0 / 362880,
                           -1.0 / 39916800.0,
                           1.0 / 6227020800.0,
                           -1.0 / 1307674368000.0,
                           1.0 / 355687428096000.0};

// ±1/n! for n = 4, 6 … 16: cos(a) = 1 − z/2 + z²·polynomial(z), omitted a^18/18! < 3e-18.
constexpr double kCos[] = {1.0 / 24,          -1.0 / 720,           1.0 / 40320,           -1.0 / 3628800.0,
                           1.0 / 479001600.0, -1.0 / 87178291200.0, 1.0 / 20922789888000.0};

double sin_small(double a) {
  const double z = rounded(a * a);
  return a + rounded(a * rounded(z * polynomial(kSin, z)));
}

// 1 − z/2 loses bits of z/2; they are computed back and added at the end.
double cos_small(double a) {
  const double z = rounded(a * a);
  const double half = rounded(0.5 * z);
  const double main = 1.0 - half;
  const double lost = (1.0 - main) - half;
  return main + (lost + rounded(rounded(z * z) * polynomial(kCos, z)));
}

// sin(2πx + quarter·π/2). 4x − q is exact, so the multiples of a quarter turn come out as exact zeros and ones.
double sin_turns(double x, int quarter) {
  if (!(x >= 0 && x < 1)) x = x - std::floor(x);
  if (!(x >= 0 && x <= 1)) return kNan;
  const int q = static_cast<int>(4 * x + 0.5);
  const double a = rounded((4 * x - q) * kHalfPi);
  switch ((q + quarter) & 3) {
    case 0:
      return sin_small(a);
    case 1:
      return cos_small(a);
    case 2:
      return -sin_small(a);
    default:
      return -cos_small(a);
  }
}

}  // namespace

double exp(double x) {
  if (x != x) return x;
  if (x > 709.79) return kInfinity;
  if (x < -745.14) return 0;
  const int k = static_cast<int>(rounded(x * kInverseLn2) + (x < 0 ? -0.5 : 0.5));
  const double high = x - rounded(k * kLn2High);
  const double low = rounded(k * kLn2Low);
  const double r = high - low;
  const double tail = rounded(rounded(r * r) * polynomial(kExp, r)) - ((r - high) + low);
  const double y = 1.0 + (r + tail);
  const int half = k / 2;  // two steps: 2^k itself may not be a normal number
  return y * power_of_two(half) * power_of_two(k - half);
}

// x = 2^k·(1 + f) with 1 + f in [√½, √2), s = f/(2 + f): log(1 + f) = 2·atanh(s) = f − (f²/2 − s·(f²/2 + R)), where R is the
// series without its first term (fdlibm, e_log.c: this arrangement keeps the rounding of s out of the leading term).
double log(double x) {
  if (x != x || x == kInfinity) return x;
  if (x <= 0) return x == 0 ? -kInfinity : kNan;
  int k = 0;
  if (x < DBL_MIN) {
    x *= 0x1p54;
    k = -54;
  }
  const uint64_t bits = bits_of(x);
  const uint64_t above_sqrt_half = bits - 0x3fe6a09e667f3bcdull;  // bits of √½: the exponent field now counts from there
  k += static_cast<int>(static_cast<int64_t>(above_sqrt_half) >> 52);
  const uint64_t exponent = above_sqrt_half & 0xfff0000000000000ull;
  const double f = double_of(bits - exponent) - 1.0;
  const double s = f / (2.0 + f);
  const double z = rounded(s * s);
  const double r = rounded(z * polynomial(kAtanh, z));
  const double half_square = rounded(rounded(0.5 * f) * f);
  const double inner = rounded(s * (half_square + r)) + rounded(k * kLn2Low);
  return rounded(k * kLn2High) - ((half_square - inner) - f);
}

double sin_2pi(double x) { return sin_turns(x, 0); }
double cos_2pi(double x) { return sin_turns(x, 1); }

}  // namespace moe::mathx

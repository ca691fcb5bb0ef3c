// Row operations and encoders of every instruction set this processor can run: odd lengths against double precision, outputs
// between NaN canaries, and what NaN and infinities do.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/dispatch.h"
#include "backends/cpu/kernels.h"
#include "core/half.h"
#include "core/isa.h"
#include "core/rng.h"
#include "tensor/formats/q8_0.h"

namespace moe::cpu {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<const KernelTable*> runnable_tables() {
  const CpuFeatures cpu = detect_cpu();
  std::vector<const KernelTable*> tables;
  for (const Isa isa : supported_isas(cpu)) {
    Result<const KernelTable*> table = kernels_for(isa, cpu);
    REQUIRE_MESSAGE(table.ok(), table.status().message());
    tables.push_back(*table);
  }
  return tables;
}

// n numbers on the heap without slack, so that the sanitizer sees one read too far.
struct Row {
  std::unique_ptr<float[]> v;
  int64_t n;
  Row(int64_t size, uint64_t seed, float deviation) : v(new float[static_cast<size_t>(size)]), n(size) {
    Rng rng(seed);
    for (int64_t i = 0; i < n; ++i) v[i] = deviation * rng.normal();
  }
  const float* get() const { return v.get(); }
  float operator[](int64_t i) const { return v[i]; }
};

// Runs fn(out) between canaries, separately and in place over `in`, and checks every element against expected(i) ±
// tolerance(i).
struct Output {
  std::vector<float> v;
  explicit Output(int64_t n) : v(static_cast<size_t>(n + 2), kNaN) {}
  float* data() { return v.data() + 1; }
  bool canaries() const { return std::isnan(v.front()) && std::isnan(v.back()); }
};

using Unary = std::function<void(const float* x, float* out, int64_t n)>;
using Exact = std::function<double(int64_t i)>;

void check_close(const float* out, int64_t n, const Exact& expected, double relative, double absolute) {
  double worst = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double error = std::fabs(out[i] - expected(i)) / (relative * std::fabs(expected(i)) + absolute);
    worst = std::fmax(worst, error == error ? error : HUGE_VAL);
  }
  CAPTURE(n);
  CHECK(worst <= 1);
}

// Runs fn to a place of its own and in place: equal bits, and every element as expected.
void check_row(const Unary& fn, const Row& x, const Exact& expected, double relative, double absolute = 1e-30) {
  Output apart(x.n), in_place(x.n);
  fn(x.get(), apart.data(), x.n);
  check_close(apart.data(), x.n, expected, relative, absolute);
  std::memcpy(in_place.data(), x.get(), static_cast<size_t>(x.n) * sizeof(float));
  fn(in_place.data(), in_place.data(), x.n);
  CHECK(std::memcmp(apart.data(), in_place.data(), static_cast<size_t>(x.n) * sizeof(float)) == 0);
  CHECK(apart.canaries());
  CHECK(in_place.canaries());
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x))); }

double sum_of(const Row& x, const std::function<double(double)>& fn) {
  double total = 0;
  for (int64_t i = 0; i < x.n; ++i) total += fn(x[i]);
  return total;
}

constexpr double kEps = 0x1p-24;

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("row kernels: activations equal double precision at every length") {
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    for (int64_t n = 1; n <= 70; ++n) {
      const Row x(n, static_cast<uint64_t>(n), 4), up(n, 100, 3);
      check_row(
          k->sigmoid, x, [&](int64_t i) { return sigmoid(x[i]); }, 8 * kEps);
      check_row(
          k->silu, x, [&](int64_t i) { return x[i] * sigmoid(x[i]); }, 8 * kEps);
      check_row(
          k->gelu, x, [&](int64_t i) { return gelu(x[i]); }, 64 * kEps, 1e-6);
      const auto softcap = [&](const float* in, float* out, int64_t m) {
        if (in != out) std::memcpy(out, in, static_cast<size_t>(m) * sizeof(float));
        k->softcap(out, 2.5f, m);
      };
      check_row(
          softcap, x, [&](int64_t i) { return 2.5 * std::tanh(x[i] / 2.5); }, 8 * kEps);
      const auto glu = [&](GluParams p) {
        return [&, p](const float* in, float* out, int64_t m) { k->glu(in, up.get(), out, m, p); };
      };
      check_row(
          glu({false, 1, 0}), x, [&](int64_t i) { return x[i] * sigmoid(x[i]) * up[i]; }, 8 * kEps);
      check_row(
          glu({true, 1, 0}), x, [&](int64_t i) { return gelu(x[i]) * up[i]; }, 64 * kEps, 1e-5);
      const auto clamped = [&](int64_t i) {
        const double g = std::fmin(x[i], 3.5), u = std::fmax(-3.5, std::fmin(3.5, up[i]));
        return g * sigmoid(1.702f * g) * (u + 1);
      };
      check_row(glu({false, 1.702f, 3.5f}), x, clamped, 16 * kEps, 1e-6);
    }
  }
}

TEST_CASE("row kernels: arithmetic equals the plain operation at every length") {
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    for (int64_t n = 1; n <= 70; ++n) {
      const Row x(n, static_cast<uint64_t>(n), 1), b(n, 200, 1);
      const auto with_b = [&](auto fn) {
        return [&b, fn](const float* in, float* out, int64_t m) { fn(in, b.get(), out, m); };
      };
      check_row(
          with_b(k->add), x, [&](int64_t i) { return x[i] + b[i]; }, 0);
      check_row(
          with_b(k->mul), x, [&](int64_t i) { return x[i] * b[i]; }, 0);
      check_row([&](const float* in, float* out, int64_t m) { k->scale(in, 0.3f, out, m); }, x,
                [&](int64_t i) { return x[i] * 0.3f; }, 0);
      Output y(n);
      std::memcpy(y.data(), b.get(), static_cast<size_t>(n) * sizeof(float));
      k->axpy(0.7f, x.get(), y.data(), n);
      check_close(
          y.data(), n, [&](int64_t i) { return static_cast<double>(0.7f) * x[i] + b[i]; }, 0, 4 * kEps * (0.7 * 5 + 5));
      CHECK(y.canaries());
    }
  }
}

TEST_CASE("row kernels: norms and softmax equal double precision at every length") {
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    std::vector<int64_t> lengths = {128, 1000, 2048};
    for (int64_t n = 1; n <= 70; ++n) lengths.push_back(n);
    for (const int64_t n : lengths) {
      const Row x(n, static_cast<uint64_t>(n), 3), w(n, 300, 1), b(n, 400, 1);
      const double size = static_cast<double>(n);
      const double rms = 1 / std::sqrt(sum_of(x, [](double v) { return v * v; }) / size + 1e-5f);
      const double mean = sum_of(x, [](double v) { return v; }) / size;
      const double deviation = 1 / std::sqrt(sum_of(x, [&](double v) { return (v - mean) * (v - mean); }) / size + 1e-5f);
      const double tolerance = kEps * (size / 16 + 24);
      check_row([&](const float* in, float* out, int64_t m) { k->rms_norm(in, w.get(), 1e-5f, out, m); }, x,
                [&](int64_t i) { return x[i] * rms * w[i]; }, tolerance);
      check_row([&](const float* in, float* out, int64_t m) { k->rms_norm(in, nullptr, 1e-5f, out, m); }, x,
                [&](int64_t i) { return x[i] * rms; }, tolerance);
      double along = 0;
      for (int64_t i = 0; i < n; ++i) along += b[i] * w[i] * x[i] * rms / size;
      const auto slope = [&](int64_t i) { return rms * (b[i] * w[i] - x[i] * rms * along); };
      check_row(
          [&](const float* in, float* out, int64_t m) {
            k->rms_norm_grad({in, w.get(), b.get(), nullptr, out, 1e-5f, m});
          },
          x, slope, tolerance, 1e-5);
      Output dx(n), sums(n);
      std::memcpy(sums.data(), w.get(), static_cast<size_t>(n) * sizeof(float));
      k->rms_norm_grad({x.get(), w.get(), b.get(), sums.data(), dx.data(), 1e-5f, n});
      check_close(dx.data(), n, slope, tolerance, 1e-5);
      check_close(
          sums.data(), n, [&](int64_t i) { return w[i] + b[i] * x[i] * rms; }, tolerance, 1e-5);
      CHECK(sums.canaries());
      if (n > 1) {  // of one number the mean leaves rounding noise alone
        check_row([&](const float* in, float* out, int64_t m) { k->layer_norm(in, w.get(), b.get(), 1e-5f, out, m); }, x,
                  [&](int64_t i) { return (x[i] - mean) * deviation * w[i] + b[i]; }, tolerance, 1e-5);
        check_row([&](const float* in, float* out, int64_t m) { k->layer_norm(in, nullptr, nullptr, 1e-5f, out, m); }, x,
                  [&](int64_t i) { return (x[i] - mean) * deviation; }, tolerance, 1e-5);
      }
      double top = -HUGE_VAL;
      for (int64_t i = 0; i < n; ++i) top = std::fmax(top, x[i]);
      CHECK(k->max(x.get(), n) == top);
      const double total = sum_of(x, [&](double v) { return std::exp(v - top); });
      check_row(
          k->softmax, x, [&](int64_t i) { return std::exp(x[i] - top) / total; }, tolerance);
      Output e(n);
      std::memcpy(e.data(), x.get(), static_cast<size_t>(n) * sizeof(float));
      CHECK(std::fabs(k->exp_minus_max(e.data(), static_cast<float>(top), n) - total) <= tolerance * total);
      // x − max rounds too: by half an ulp of 16..32, 2^-20
      check_close(
          e.data(), n, [&](int64_t i) { return std::exp(x[i] - top); }, 24 * kEps, 1e-30);
      CHECK(e.canaries());
    }
  }
}

TEST_CASE("row kernels: rotations have the bits of the plain formula") {
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    for (int64_t pairs = 1; pairs <= 40; ++pairs) {
      const Row x(2 * pairs, static_cast<uint64_t>(pairs), 1), c(pairs, 500, 1), s(pairs, 600, 1);
      const auto rotated = [&](int64_t pair, int64_t first, int64_t second, bool upper) {
        const float x0 = x[first], x1 = x[second];
        const float a = upper ? x0 * s[pair] : x0 * c[pair], b = upper ? x1 * c[pair] : x1 * s[pair];
        return static_cast<double>(upper ? a + b : a - b);
      };
      check_row([&](const float* in, float* out, int64_t) { k->rope_interleaved(in, c.get(), s.get(), out, pairs); }, x,
                [&](int64_t i) { return rotated(i / 2, i / 2 * 2, i / 2 * 2 + 1, i % 2 == 1); }, 0);
      check_row([&](const float* in, float* out, int64_t) { k->rope_half_split(in, c.get(), s.get(), out, pairs); }, x,
                [&](int64_t i) { return rotated(i % pairs, i % pairs, i % pairs + pairs, i >= pairs); }, 0);
    }
  }
}

TEST_CASE("row kernels: exp reaches its whole range within 3 ulp") {
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    std::vector<float> x;
    for (int i = 0; i <= 5046; ++i) x.push_back(-87.3f + 0.0173f * static_cast<float>(i));
    std::vector<float> e = x;
    k->exp_minus_max(e.data(), 0.0f, static_cast<int64_t>(e.size()));
    check_close(
        e.data(), static_cast<int64_t>(e.size()), [&](int64_t i) { return std::exp(static_cast<double>(x[i])); }, 3 * 2 * kEps,
        0);
    float high[2] = {88.0f, 1000.0f};
    k->exp_minus_max(high, 0.0f, 2);
    CHECK(std::fabs(high[0] / std::exp(88.0) - 1) < 6 * kEps);
    CHECK(high[1] > 2e38f);
    CHECK(std::isfinite(high[1]));
  }
}

TEST_CASE("row kernels: NaN and infinities do what the table says") {
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    for (const int64_t n : {1, 3, 8, 17, 67}) {
      CAPTURE(n);
      std::vector<float> x(static_cast<size_t>(n), -kInf);
      k->softmax(x.data(), x.data(), n);
      for (const float v : x) CHECK(v == 0.0f);
      std::fill(x.begin(), x.end(), -kInf);
      CHECK(k->exp_minus_max(x.data(), -kInf, n) == 0.0f);
      for (const float v : x) CHECK(v == 0.0f);

      for (int64_t at = 0; at < n; ++at) {
        std::fill(x.begin(), x.end(), kNaN);
        x[at] = -3.0f;
        CHECK(k->max(x.data(), n) == -3.0f);
        std::fill(x.begin(), x.end(), -kInf);
        x[at] = 2.0f;
        k->softmax(x.data(), x.data(), n);
        CHECK(x[at] == 1.0f);
        std::fill(x.begin(), x.end(), 0.5f);
        x[at] = kNaN;
        k->silu(x.data(), x.data(), n);
        CHECK(std::isnan(x[at]));
        std::fill(x.begin(), x.end(), 0.5f);
        x[at] = kNaN;
        k->softcap(x.data(), 30.0f, n);
        CHECK(std::isnan(x[at]));
      }
    }
  }
}

TEST_CASE("row kernels: int8 activations have the same bytes in every instruction set") {
  Rng rng(77);
  std::vector<float> x;
  for (int chunk = 0; chunk < 50; ++chunk) {
    const float scale = std::ldexp(1.0f, static_cast<int>(rng.below(250)) - 125);
    for (int i = 0; i < (chunk < 49 ? kA8Chunk : 96); ++i) x.push_back(scale * rng.normal());
  }
  float* chunk = x.data();
  for (int i = 0; i < kA8Chunk; ++i) chunk[i] = 0;
  chunk += kA8Chunk;
  for (int i = 0; i < kA8Chunk; ++i) chunk[i] = i == 40 ? 127.0f : static_cast<float>(i % 32 - 16) + 0.5f;  // ties
  chunk += kA8Chunk;
  chunk[6] = kNaN, chunk[36] = kInf, chunk[kA8Chunk + 255] = -kInf, chunk[kA8Chunk + 1] = kNaN;
  chunk += 2 * kA8Chunk;
  for (int i = 0; i < kA8Chunk; ++i) chunk[i] = kNaN;
  chunk += kA8Chunk;
  for (int i = 0; i < kA8Chunk; ++i) chunk[i] = 1e-41f;
  const int64_t n = static_cast<int64_t>(x.size());

  std::vector<BlockA8> reference(static_cast<size_t>(n / 32));
  for (int64_t begin = 0; begin < n; begin += kA8Chunk) {
    const int64_t end = std::min(begin + kA8Chunk, n);
    std::vector<float> v(x.begin() + begin, x.begin() + end);
    float amax = 0;
    for (float& value : v) {
      value = std::isnan(value) ? 0.0f : std::fmax(-3.4028234664e38f, std::fmin(3.4028234664e38f, value));
      amax = std::fmax(amax, std::fabs(value));
    }
    const bool zero = amax < 0x1p-120f;
    const float inverse = zero ? 0.0f : 127.0f / amax;
    for (int64_t i = 0; i < end - begin; ++i) {
      BlockA8& b = reference[(begin + i) / 32];
      b.scale = zero ? 0.0f : amax / 127.0f;
      b.q[i % 32] = static_cast<int8_t>(std::nearbyint(v[i] * inverse));
      b.sum += b.q[i % 32];
      b.half[i % 32 / 16] += b.q[i % 32];
    }
  }
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    std::unique_ptr<BlockA8[]> blocks(new BlockA8[static_cast<size_t>(n / 32)]);
    k->quantize_a8(x.data(), blocks.get(), n);
    CHECK(std::memcmp(blocks.get(), reference.data(), reference.size() * sizeof(BlockA8)) == 0);
    for (int64_t b = 0; b < n / 32; ++b) {
      for (const int8_t q : blocks[b].q) CHECK_MESSAGE(q != -128, "block " << b);
    }
  }
}

TEST_CASE("row kernels: sums of squares equal double precision at every length, also where a float would overflow or vanish") {
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    CHECK(k->sum_squares(nullptr, 0) == 0);
    for (int64_t n = 1; n <= 150; ++n)
      for (const float deviation : {1.0f, 1e30f, 1e-30f}) {
        const Row x(n, static_cast<uint64_t>(n), deviation);
        const double wanted = sum_of(x, [](double v) { return v * v; });
        CHECK(k->sum_squares(x.get(), n) == doctest::Approx(wanted).epsilon(1e-14));
      }
  }
}

TEST_CASE("row kernels: adamw writes its own elements alone, at every length") {
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    for (int64_t n = 0; n <= 70; ++n) {
      const Row grad(n, 1, 1), first(n, 2, 1);
      Output w(n), m(n), v(n);
      std::vector<uint16_t> copy(static_cast<size_t>(n + 1), 0xabcd);
      for (int64_t i = 0; i < n; ++i) w.data()[i] = first[i], m.data()[i] = 0, v.data()[i] = 0;
      AdamWArgs a{};
      a.grad = grad.get(), a.w = w.data(), a.m = m.data(), a.v = v.data(), a.copy = copy.data(), a.n = n;
      a.grad_scale = 2, a.beta1 = a.beta2 = 0.5f, a.rest1 = a.rest2 = 0.5f;
      a.rate = 0.25f, a.root_scale = 1, a.eps = 1e-8f, a.decay = 0.125f;
      k->adamw(a);
      check_close(
          m.data(), n, [&](int64_t i) { return grad[i]; }, 0, 1e-30);
      check_close(
          v.data(), n, [&](int64_t i) { return 2 * double{grad[i]} * grad[i]; }, 2 * kEps, 0);
      const auto step = [&](int64_t i) { return 0.25 * grad[i] / (std::sqrt(2.0) * std::fabs(grad[i]) + 1e-8); };
      check_close(
          w.data(), n, [&](int64_t i) { return first[i] - step(i) - 0.125 * first[i]; }, 4 * kEps, 1e-6);
      for (int64_t i = 0; i < n; ++i) CHECK(copy[i] == f32_to_bf16(w.data()[i]));
      CHECK(copy.back() == 0xabcd);
      CHECK((w.canaries() && m.canaries() && v.canaries()));
    }
  }
}

TEST_CASE("row kernels: cache rows have the bytes of the formats' encoders") {
  Rng rng(78);
  std::vector<float> x;
  x.reserve(2 * 4096 + (65536 / 7 + 1) * 4);
  for (int i = 0; i < 4096; ++i) x.push_back(float_from_bits(rng.next_u32()));  // every exponent, NaN and infinity
  for (int i = 0; i < 4096; ++i) x.push_back(rng.normal());
  for (uint32_t h = 0; h < 65536; h += 7) {  // halves, the middle between two of them, and both neighbours of that
    const uint32_t exact = float_bits(f16_to_f32(static_cast<uint16_t>(h)));
    for (const uint32_t step : {0u, 0xfffu, 0x1000u, 0x1001u}) x.push_back(float_from_bits(exact + step));
  }
  x.resize(x.size() / 32 * 32);
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    std::vector<uint16_t> halves(x.size());
    k->encode_f16(x.data(), halves.data(), static_cast<int64_t>(x.size()));
    int different = 0;
    for (size_t i = 0; i < x.size(); ++i) different += halves[i] != f32_to_f16(x[i]);
    CHECK(different == 0);
    for (int64_t n = 1; n <= 40; ++n) {
      std::vector<uint16_t> row(static_cast<size_t>(n + 1), 0xabcd);
      const std::unique_ptr<float[]> in(new float[static_cast<size_t>(n)]);
      std::memcpy(in.get(), x.data() + 4096, static_cast<size_t>(n) * sizeof(float));
      k->encode_f16(in.get(), row.data(), n);
      CHECK(std::memcmp(row.data(), halves.data() + 4096, static_cast<size_t>(n) * 2) == 0);
      CHECK(row.back() == 0xabcd);
    }
    std::vector<BlockQ8_0> reference(x.size() / 32), blocks(x.size() / 32);
    encode_q8_0(x.data(), nullptr, reference.data(), static_cast<int64_t>(reference.size()));
    k->encode_q8_0(x.data(), blocks.data(), static_cast<int64_t>(x.size()));
    different = 0;
    for (size_t b = 0; b < blocks.size(); ++b) different += std::memcmp(&blocks[b], &reference[b], sizeof(BlockQ8_0)) != 0;
    CHECK(different == 0);
  }
}

TEST_SUITE_END();

}  // namespace moe::cpu

// Kernels of derivatives in every instruction set this processor can run: every length between canaries, apart and in place,
// against double precision; and what infinities and NaN give.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/dispatch.h"
#include "core/isa.h"
#include "tests/backends/cpu/op_fixture.h"

namespace moe::cpu {
namespace {

using test::normals;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

template <class F>
void for_each_table(F&& f) {
  const CpuFeatures cpu = detect_cpu();
  for (const Isa isa : supported_isas(cpu)) {
    const Result<const KernelTable*> table = kernels_for(isa, cpu);
    REQUIRE_MESSAGE(table.ok(), table.status().message());
    CAPTURE(std::string((*table)->isa));
    f(**table);
  }
}

double sigmoid_slope(double x) { return 1 / (1 + std::exp(-x)) / (1 + std::exp(x)); }
double silu_slope(double x) { return 1 / (1 + std::exp(-x)) + x * sigmoid_slope(x); }
double gelu_slope(double x) {
  const double root = std::sqrt(2 / std::acos(-1.0)), t = std::tanh(root * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
}

using Kernel = void (*)(const float*, const float*, float*, int64_t);

// Numbers on the heap without slack, so that the sanitizer sees one read or write too far.
std::unique_ptr<float[]> exact_copy(const std::vector<float>& v) {
  std::unique_ptr<float[]> p(new float[v.size()]);
  std::memcpy(p.get(), v.data(), v.size() * sizeof(float));
  return p;
}

void check_slopes(Kernel kernel, double (*slope)(double), const std::vector<float>& x, const std::vector<float>& dy) {
  const size_t n = x.size();
  const auto from = exact_copy(x), by = exact_copy(dy), apart = exact_copy(x), over_x = exact_copy(x), over_dy = exact_copy(dy);
  kernel(from.get(), by.get(), apart.get(), static_cast<int64_t>(n));
  kernel(over_x.get(), by.get(), over_x.get(), static_cast<int64_t>(n));
  kernel(from.get(), over_dy.get(), over_dy.get(), static_cast<int64_t>(n));
  CHECK(std::memcmp(apart.get(), over_x.get(), n * sizeof(float)) == 0);
  CHECK(std::memcmp(apart.get(), over_dy.get(), n * sizeof(float)) == 0);
  for (size_t i = 0; i < n; ++i) {
    CAPTURE(x[i]);
    const double wanted = dy[i] * slope(x[i]);
    CHECK(std::fabs(apart[i] - wanted) <= std::fabs(dy[i]) * (1e-6 * std::fabs(slope(x[i])) + 5e-7));
  }
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("slopes of activations equal double precision at every length, apart and in place") {
  for_each_table([](const KernelTable& k) {
    for (size_t n = 1; n <= 50; ++n) {
      const std::vector<float> x = normals(n, n, 4), dy = normals(n, 100);
      check_slopes(k.silu_grad, silu_slope, x, dy);
      check_slopes(k.gelu_grad, gelu_slope, x, dy);
      check_slopes(k.sigmoid_grad, sigmoid_slope, x, dy);
    }
  });
}

TEST_CASE("the slope of sigmoid keeps its relative error where it is small") {
  for_each_table([](const KernelTable& k) {
    for (int i = 0; i <= 432; ++i) {
      const float x = -80 + 0.37f * static_cast<float>(i);
      const float one = 1;
      float slope = 0;
      k.sigmoid_grad(&x, &one, &slope, 1);
      CAPTURE(x);
      CHECK(std::fabs(slope / sigmoid_slope(x) - 1) <= 1e-6);
    }
  });
}

TEST_CASE("slopes at infinities are the limits, NaN stays NaN") {
  for_each_table([](const KernelTable& k) {
    const float x[] = {kInf, -kInf, 1e30f, -1e30f, kNaN}, one[] = {1, 1, 1, 1, 1};
    const float limits[] = {1, 0, 1, 0};
    for (const Kernel kernel : {k.silu_grad, k.gelu_grad, k.sigmoid_grad}) {
      float slope[5];
      kernel(x, one, slope, 5);
      for (size_t i = 0; i < 4; ++i) CHECK(slope[i] == doctest::Approx(kernel == k.sigmoid_grad ? 0 : limits[i]).epsilon(1e-6));
      CHECK(std::isnan(slope[4]));
    }
  });
}

TEST_CASE("glu_grad in place has the bits of glu_grad apart, at every length") {
  constexpr GluParams kUnits[] = {{false, 1, 0}, {true, 1, 0}, {false, 1.702f, 1.5f}};
  for_each_table([&](const KernelTable& k) {
    for (const GluParams& p : kUnits)
      for (size_t n = 1; n <= 50; ++n) {
        const auto gate = exact_copy(normals(n, 1, 2)), up = exact_copy(normals(n, 2, 2)), dh = exact_copy(normals(n, 3));
        const auto dgate = exact_copy(normals(n, 4)), dup = exact_copy(normals(n, 5));
        k.glu_grad({gate.get(), up.get(), dh.get(), dgate.get(), dup.get(), static_cast<int64_t>(n), p});
        k.glu_grad({gate.get(), up.get(), dh.get(), gate.get(), up.get(), static_cast<int64_t>(n), p});
        CHECK(std::memcmp(gate.get(), dgate.get(), n * sizeof(float)) == 0);
        CHECK(std::memcmp(up.get(), dup.get(), n * sizeof(float)) == 0);
      }
  });
}

TEST_CASE("on the bounds of the clamped unit gradients flow, beyond them they do not") {
  for_each_table([](const KernelTable& k) {
    const float gate[] = {2, 2.5f, -9, 1, 1, 1, 1}, up[] = {1, 1, 1, 2, 2.5f, -2, -2.5f}, dh[] = {1, 1, 1, 1, 1, 1, 1};
    float dgate[7], dup[7];
    k.glu_grad({gate, up, dh, dgate, dup, 7, {false, 1.702f, 2}});
    const bool gate_flows[] = {true, false, true, true, true, true, true},
               up_flows[] = {true, true, true, true, false, true, false};
    for (size_t i = 0; i < 7; ++i) {
      CAPTURE(i);
      CHECK((dgate[i] != 0) == gate_flows[i]);
      CHECK((dup[i] != 0) == up_flows[i]);
    }
  });
}

TEST_SUITE_END();

}  // namespace moe::cpu

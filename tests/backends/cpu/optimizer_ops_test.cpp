// sum_squares and adamw on the CPU backend, on every instruction set and 1 to 3 threads, against the references in double
// precision, and against each other bit for bit.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "backends/cpu/cpu_backend.h"
#include "core/half.h"
#include "tests/backends/cpu/op_fixture.h"
#include "tests/backends/cpu/op_reference.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

const std::vector<Shape> kShapes = {{1}, {7}, {3, 5}, {64}, {2, 3, 43}, {33, 500}, {16384}, {5, 100, 101}};

size_t count(const Shape& s) { return static_cast<size_t>(s.elements()); }

std::vector<float> squares_of_normals(size_t n, uint64_t seed) {
  std::vector<float> v = normals(n, seed);
  for (float& x : v) x *= x;
  return v;
}

// States of a parameter after some steps, and hyper-parameters of the fifth.
std::vector<OpArgument> adamw_arguments(const Shape& s, bool with_copy) {
  const size_t n = count(s);
  const std::vector<float> hyper = {1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.25f, 0.40951f, 0.2262190625f};
  return {gradient(s, normals(n, 1)),
          gradient(s, normals(n, 2)),
          gradient(s, normals(n, 3)),
          gradient(s, squares_of_normals(n, 4)),
          with_copy ? state(s, DType::kBF16) : absent(),
          floats({8}, hyper)};
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("sum_squares adds tensors of every length") {
  for_each_isa_and_threads([](const OpRun& run) {
    for (const Shape& s : kShapes)
      check_against_f64(Op::kSumSquares, {gradient(s, normals(count(s), 5))}, NoAttrs{}, run, 1e-7);
  });
}

TEST_CASE("sum_squares keeps small numbers beside large ones, and is not finite exactly where an element is not") {
  for_each_isa_and_threads([](const OpRun& run) {
    const int64_t n = 70000;
    std::vector<float> x(static_cast<size_t>(n), 1e-3f);
    x[0] = 100;
    check_against_f64(Op::kSumSquares, {gradient({n}, x)}, NoAttrs{}, run, 1e-7);
    for (const float odd : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
      for (const size_t at : {size_t{0}, size_t{40000}, size_t{69999}}) {
        std::vector<float> y(static_cast<size_t>(n), 1.0f);
        y[at] = odd;
        std::vector<OpArgument> arguments = {gradient({n}, y)};
        CHECK_FALSE(std::isfinite(run_op(Op::kSumSquares, arguments, NoAttrs{}, run)[0][0]));
      }
  });
}

TEST_CASE("adamw updates weights and moments and leaves the gradient") {
  for_each_isa_and_threads([](const OpRun& run) {
    for (const Shape& s : kShapes) check_against_f64(Op::kAdamW, adamw_arguments(s, false), NoAttrs{}, run, 4e-7);
  });
}

TEST_CASE("adamw's copy is the new weight to nearest even") {
  for_each_isa_and_threads([](const OpRun& run) {
    for (const Shape& s : kShapes) {
      std::vector<OpArgument> arguments = adamw_arguments(s, true);
      run_op(Op::kAdamW, arguments, NoAttrs{}, run);
      const auto* copy = reinterpret_cast<const uint16_t*>(arguments[4].bytes.data());
      size_t different = 0;
      for (size_t i = 0; i < count(s); ++i) different += copy[i] != f32_to_bf16(arguments[0].f32()[i]);
      CHECK(different == 0);
    }
  });
}

TEST_CASE("adamw has the same bits in every instruction set") {
  const Shape s = {5, 100, 101};
  std::vector<OpArgument> scalar = adamw_arguments(s, false);
  run_op(Op::kAdamW, scalar, NoAttrs{}, {"scalar", 1});
  for_each_isa_and_threads([&](const OpRun& run) {
    std::vector<OpArgument> found = adamw_arguments(s, false);
    run_op(Op::kAdamW, found, NoAttrs{}, run);
    for (size_t i = 0; i < 4; ++i) CHECK(same_bits(found[i].floats(), scalar[i].floats()));
  });
}

TEST_CASE("a weight without gradient only decays") {
  for_each_isa_and_threads([](const OpRun& run) {
    std::vector<OpArgument> a = {gradient({3}, {1, -2, 4}),
                                 gradient({3}, {0, 0, 0}),
                                 gradient({3}, {0, 0, 0}),
                                 gradient({3}, {0, 0, 0}),
                                 absent(),
                                 floats({8}, {0.5f, 0.9f, 0.95f, 1e-8f, 0.5f, 1.0f, 0.1f, 0.05f})};
    run_op(Op::kAdamW, a, NoAttrs{}, run);
    CHECK(a[0].floats() == std::vector<float>{0.75f, -1.5f, 3.0f});
    CHECK(a[2].floats() == std::vector<float>{0, 0, 0});
  });
}

TEST_SUITE_END();

}  // namespace moe

// diversity_grad: what it adds to gradients, against differences of its loss in double precision.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/rng.h"
#include "tests/tensor/f64/graph_f64.h"
#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

using namespace test;

struct Diverse : GraphFixture {
  ValueId w, grad, strength, loss;
  Values64 values;
  Diverse(const Shape& s, double by) {
    w = state("w", s, DType::kF32), grad = state("grad", s, DType::kF32), strength = input("strength", {1});
    loss = op(Op::kDiversityGrad, {w, grad, strength});
    Rng rng(3);
    for (int64_t i = 0; i < s.elements(); ++i) values[w].push_back(double{rng.normal()} + 0.5), values[grad].push_back(0.25);
    values[strength] = {by};
  }
  Values64 ran(Values64 v) const {
    run_f64(g, {}, v);
    return v;
  }
};

}  // namespace

TEST_SUITE_BEGIN("gradients");

TEST_CASE("diversity_grad: of pairs and of many experts, added to what is there, in its strength") {
  constexpr double kStep = 1e-5;
  for (const Shape& s : {Shape{1, 3, 2}, Shape{2, 3, 2}, Shape{5, 2, 4}}) {
    const Diverse d(s, 0.75);
    const Values64 plain = d.ran(d.values);
    for (size_t i = 0; i < plain.at(d.w).size(); ++i) {
      Values64 above = d.values, below = d.values;
      above[d.w][i] += kStep, below[d.w][i] -= kStep;
      const double slope = (d.ran(above).at(d.loss)[0] - d.ran(below).at(d.loss)[0]) / (2 * kStep);
      CHECK(plain.at(d.grad)[i] - 0.25 == doctest::Approx(0.75 * slope).epsilon(1e-6).scale(0.01));
      CHECK((slope != 0) == (s[0] > 1));
    }
  }
}

TEST_CASE("an expert of zeros is in no pair's cosine and gets no gradient") {
  Diverse d({3, 2, 2}, 1);
  std::fill_n(d.values[d.w].begin() + 4, 4, 0.0);
  const Values64 v = d.ran(d.values);
  for (size_t i = 4; i < 8; ++i) CHECK(v.at(d.grad)[i] == 0.25);
  CHECK(v.at(d.grad)[0] != 0.25);
  CHECK(std::isfinite(v.at(d.loss)[0]));
}

TEST_SUITE_END();

}  // namespace moe

#include "tests/tensor/f64/gradient_check.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/rng.h"
#include "tensor/autodiff.h"

namespace moe::test {
namespace {

constexpr double kStep = 1e-5;
constexpr size_t kMostElements = 64;

Doubles normals64(size_t n, Rng& rng) {
  Doubles v(n);
  for (double& x : v) x = double{rng.normal()};
  return v;
}

double dot(const Doubles& a, const Doubles& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

bool same_choices(const Graph& g, const Values64& a, const Values64& b) {
  for (size_t i = 0; i < g.values.size(); ++i) {
    const auto id = static_cast<ValueId>(i);
    if (g.values[i].kind == ValueKind::kTemp && g.values[i].dtype == DType::kI32 && a.at(id) != b.at(id)) return false;
  }
  return true;
}

// plain: all values of the graph where nothing is moved.
double loss(const GradientCase& c, Values64 values, const Doubles& direction, const Values64& plain) {
  run_f64(c.g, c.run, values);
  REQUIRE_MESSAGE(same_choices(c.g, values, plain), "choose another seed");
  double sum = dot(values.at(c.y), direction);
  for (const LossTerm& t : c.also) sum += dot(values.at(t.value), t.coefficients);
  return sum;
}

// Elements to look at: all of few, else some spread over all of them.
std::vector<size_t> elements_of(size_t n, Rng& rng) {
  std::vector<size_t> all(std::min(n, kMostElements));
  std::iota(all.begin(), all.end(), size_t{0});
  if (n > kMostElements)
    for (size_t& i : all) i = static_cast<size_t>(rng.below(n));
  return all;
}

}  // namespace

void check_gradients(GradientCase c, bool may_vanish) {
  Rng rng(c.seed);
  for (size_t i = 0; i < c.g.values.size(); ++i) {
    const Value& v = c.g.values[i];
    const auto id = static_cast<ValueId>(i);
    if (v.kind == ValueKind::kWeight && !c.values.count(id))
      c.values[id] = normals64(static_cast<size_t>(v.shape.elements()), rng);
  }
  Values64 plain = c.values;
  run_f64(c.g, c.run, plain);
  const Doubles direction = normals64(plain.at(c.y).size(), rng);

  Graph both = c.g;
  Value seed;
  seed.name = "dL/dy", seed.kind = ValueKind::kInput, seed.shape = c.g.value(c.y).shape;
  const ValueId dy = both.add_value(std::move(seed));
  const GradientSeed seeds[] = {{c.y, dy}};
  auto gradients = differentiate(both, seeds, [](const Value& w) { return w.dtype == DType::kF32; });
  REQUIRE_MESSAGE(gradients.ok(), gradients.status().message());
  REQUIRE(both.validate().ok());
  REQUIRE_FALSE(gradients->empty());
  Values64 reverse = c.values;
  reverse[dy] = direction;
  for (const WeightGradient& w : *gradients)
    reverse[w.grad].assign(static_cast<size_t>(both.value(w.grad).shape.elements()), 0.0);
  run_f64(both, c.run, reverse);

  for (const WeightGradient& w : *gradients) {
    const Doubles& found = reverse.at(w.grad);
    double largest = 1e-3, worst = 0;
    for (const size_t i : elements_of(found.size(), rng)) {
      Values64 above = c.values, below = c.values;
      above[w.weight][i] += kStep, below[w.weight][i] -= kStep;
      const double up = loss(c, std::move(above), direction, plain), down = loss(c, std::move(below), direction, plain);
      const double wanted = (up - down) / (2 * kStep);
      largest = std::max(largest, std::fabs(wanted));
      worst = std::max(worst, std::fabs(found[i] - wanted));
    }
    CHECK_MESSAGE(worst <= c.tolerance * largest, both.value(w.grad).name, ": off by ", worst, " of ", largest);
    const bool vanishes = std::all_of(found.begin(), found.end(), [](double v) { return v == 0; });
    CHECK_MESSAGE((may_vanish || !vanishes), both.value(w.grad).name, " is zero");
  }
}

}  // namespace moe::test

#include "tests/evolution/problems.h"

#include <algorithm>
#include <cmath>

#include "core/mathx.h"
#include "evolution/pareto.h"
#include "evolution/reference_points.h"
#include "evolution/streams.h"

namespace moe::test {
namespace {

// 1 on the true front.
double zdt_distance(std::span<const double> x) {
  double sum = 0;
  for (size_t i = 1; i < x.size(); ++i) sum += x[i];
  return 1 + 9 * sum / static_cast<double>(x.size() - 1);
}

void zdt1(std::span<const double> x, Objectives& f) {
  const double g = zdt_distance(x);
  f[0] = x[0];
  f[1] = g * (1 - std::sqrt(f[0] / g));
}

void zdt2(std::span<const double> x, Objectives& f) {
  const double g = zdt_distance(x);
  f[0] = x[0];
  f[1] = g * (1 - (f[0] / g) * (f[0] / g));
}

void zdt3(std::span<const double> x, Objectives& f) {
  const double g = zdt_distance(x);
  f[0] = x[0];
  f[1] = g * (1 - std::sqrt(f[0] / g) - f[0] / g * mathx::sin_2pi(5 * f[0]));
}

void dtlz1(std::span<const double> x, Objectives& f) {
  double sum = static_cast<double>(x.size() - 2);
  for (size_t i = 2; i < x.size(); ++i) sum += (x[i] - 0.5) * (x[i] - 0.5) - mathx::cos_2pi(10 * (x[i] - 0.5));
  const double scale = 0.5 * (1 + 100 * sum);
  f[0] = scale * x[0] * x[1];
  f[1] = scale * x[0] * (1 - x[1]);
  f[2] = scale * (1 - x[0]);
}

void dtlz2(std::span<const double> x, Objectives& f) {
  double scale = 1;
  for (size_t i = 2; i < x.size(); ++i) scale += (x[i] - 0.5) * (x[i] - 0.5);
  f[0] = scale * mathx::cos_2pi(x[0] / 4) * mathx::cos_2pi(x[1] / 4);
  f[1] = scale * mathx::cos_2pi(x[0] / 4) * mathx::sin_2pi(x[1] / 4);
  f[2] = scale * mathx::sin_2pi(x[0] / 4);
}

double power(double base, double exponent) { return base > 0 ? mathx::exp(exponent * mathx::log(base)) : 0; }

// How far a crossover spreads, for parents `apart` whose nearer bound is `room` away.
double spread(double u, double room, double apart, double index) {
  const double alpha = 2 - power(1 + 2 * room / apart, -(index + 1));
  return u * alpha <= 1 ? power(u * alpha, 1 / (index + 1)) : power(1 / (2 - u * alpha), 1 / (index + 1));
}

}  // namespace

const RealProblem kZdt1{"ZDT1", 30, 2, zdt1}, kZdt2{"ZDT2", 30, 2, zdt2}, kZdt3{"ZDT3", 30, 2, zdt3};
const RealProblem kDtlz1{"DTLZ1", 7, 3, dtlz1}, kDtlz2{"DTLZ2", 12, 3, dtlz2};

std::vector<Objectives> zdt_front(const RealProblem& problem, int n) {
  std::vector<Objectives> points;
  RealVector x(static_cast<size_t>(problem.n_variables), 0.0);
  double lowest = 2;
  for (int i = 0; i < n; ++i) {
    Objectives f{};
    x[0] = static_cast<double>(i) / (n - 1);
    problem.evaluate(x, f);
    if (f[1] >= lowest) continue;
    lowest = f[1];
    points.push_back(f);
  }
  return points;
}

std::vector<Objectives> dtlz_targets(const RealProblem& problem) {
  std::vector<Objectives> targets = das_dennis_points(3, 12).value();
  for (Objectives& t : targets) {
    const bool sphere = problem.evaluate == dtlz2;
    const double length = sphere ? std::sqrt(t[0] * t[0] + t[1] * t[1] + t[2] * t[2]) : 2;
    for (int m = 0; m < 3; ++m) t[m] /= length;
  }
  return targets;
}

RealVector cross(const RealVector& mother, const RealVector& father, double index, Rng& rng) {
  RealVector child = mother;
  for (size_t i = 0; i < child.size(); ++i) {
    if (rng.uniform_double() >= 0.5) continue;
    const double low = std::min(mother[i], father[i]), high = std::max(mother[i], father[i]);
    const double u = rng.uniform_double();
    const bool low_side = rng.uniform_double() < 0.5;
    if (high - low < 1e-14) continue;
    const double reach = spread(u, low_side ? low : 1 - high, high - low, index) * (high - low);
    child[i] = std::clamp(0.5 * (low + high + (low_side ? -reach : reach)), 0.0, 1.0);
  }
  return child;
}

void mutate(RealVector& x, double index, Rng& rng) {
  const double rate = 1 / static_cast<double>(x.size());
  for (double& v : x) {
    if (rng.uniform_double() >= rate) continue;
    const double u = rng.uniform_double();
    const double step = u < 0.5 ? power(2 * u + (1 - 2 * u) * power(1 - v, index + 1), 1 / (index + 1)) - 1
                                : 1 - power(2 * (1 - u) + (2 * u - 1) * power(v, index + 1), 1 / (index + 1));
    v = std::clamp(v + step, 0.0, 1.0);
  }
}

RealSearch::RealSearch(const RealProblem& problem, std::unique_ptr<Algorithm> algorithm, RealVariation variation)
    : problem_(problem), algorithm_(std::move(algorithm)), variation_(variation) {
  const AlgorithmOptions& options = algorithm_->options();
  for (uint32_t i = 0; i < options.population; ++i) {
    Rng rng = stream_of(options.seed, Purpose::kFirstPopulation, 0, i);
    RealVector x(static_cast<size_t>(problem_.n_variables));
    for (double& v : x) v = rng.uniform_double();
    children_.push_back(std::move(x));
  }
  tell();
}

void RealSearch::step() {
  const uint32_t generation = algorithm_->generation();
  const uint64_t seed = algorithm_->options().seed;
  const std::span<const Mating> matings = algorithm_->ask();
  children_.clear();
  for (uint32_t i = 0; i < matings.size(); ++i) {
    RealVector child = population_[matings[i].mother];
    Rng crossover = stream_of(seed, Purpose::kCrossover, generation, i);
    Rng mutation = stream_of(seed, Purpose::kMutation, generation, i);
    if (matings[i].father != matings[i].mother)
      child = cross(child, population_[matings[i].father], variation_.crossover_index, crossover);
    mutate(child, variation_.mutation_index, mutation);
    children_.push_back(std::move(child));
  }
  tell();
}

void RealSearch::step_to(uint32_t generation) {
  while (algorithm_->generation() < generation) step();
}

void RealSearch::tell() {
  std::vector<Score> scores(children_.size());
  for (size_t i = 0; i < children_.size(); ++i) problem_.evaluate(children_[i], scores[i].values);
  MOE_CHECK(algorithm_->tell(scores).ok());
  std::vector<RealVector> next;
  for (const uint32_t i : algorithm_->survivors())
    next.push_back(i < population_.size() ? population_[i] : children_[i - population_.size()]);
  population_ = std::move(next);
}

std::vector<Objectives> RealSearch::objectives() const {
  std::vector<Objectives> points;
  for (const Score& score : algorithm_->population()) points.push_back(score.values);
  return points;
}

int zeros(const BitString& x) { return static_cast<int>(std::count(x.begin(), x.end(), 0)); }

int bits_after_first_zero(const BitString& x) { return static_cast<int>(x.end() - std::find(x.begin(), x.end(), 0)); }

void flip_bits(BitString& x, Rng& rng) {
  const double per_gap = mathx::log(1 - 1 / static_cast<double>(x.size()));
  for (double at = 0;; ++at) {
    at += std::floor(mathx::log(1 - rng.uniform_double()) / per_gap);
    if (!(at < static_cast<double>(x.size()))) return;
    x[static_cast<size_t>(at)] ^= 1;
  }
}

uint64_t evaluations_to_optimum(int (*distance)(const BitString&), int n_bits, uint64_t seed) {
  AlgorithmOptions options;
  options.seed = seed;
  options.children = 1;
  const std::unique_ptr<Algorithm> algorithm = make_algorithm("level-switch", options).value();
  BitString parent(static_cast<size_t>(n_bits)), child;
  Rng first = stream_of(seed, Purpose::kFirstPopulation, 0);
  for (uint8_t& bit : parent) bit = static_cast<uint8_t>(first.below(2));
  Score score;
  score.values[0] = distance(parent);
  MOE_CHECK(algorithm->tell({&score, 1}).ok());
  uint64_t evaluations = 1;
  while (algorithm->population()[0].values[0] > 0) {
    const uint32_t generation = algorithm->generation();
    MOE_CHECK(algorithm->ask().size() == 1);
    Rng rng = stream_of(seed, Purpose::kMutation, generation);
    child = parent;
    flip_bits(child, rng);
    score.values[0] = distance(child);
    MOE_CHECK(algorithm->tell({&score, 1}).ok());
    if (algorithm->survivors()[0] == 1) parent = child;
    ++evaluations;
  }
  return evaluations;
}

double expected_one_max(int n_bits) { return n_bits * (std::exp(1.0) * std::log(n_bits) - 1.8925); }

double expected_leading_ones(int n_bits) {
  const double stay = 1 - 1.0 / n_bits;
  return 0.5 * n_bits * n_bits * (std::pow(stay, 1 - n_bits) - stay);
}

double median(std::vector<double> values) {
  MOE_CHECK(values.size() % 2 == 1);
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace moe::test

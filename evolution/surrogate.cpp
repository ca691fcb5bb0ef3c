#include "evolution/surrogate.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <limits>

#include "core/check.h"
#include "core/mathx.h"

namespace moe {
namespace {

// Variances in units of the values'. Of the noises, which are those of an evaluation as against one on other text, the
// likeliest is taken.
constexpr double kMeanVariance = 10, kSlopeVariance = 1, kNoises[] = {0.01, 0.03, 0.1}, kRough = 5;

// Differences of one layer's settings that count alike.
constexpr double kLogK = 0.7, kThreshold = 0.1, kLogTemperature = 0.3, kBias = 0.1, kWidth = 0.5, kRedirect = 1;

double square(double x) { return x * x; }

// Connections that both have or both lack, as a share of those of the classes that both know, less those in which they differ.
double agreement(const LayerGene& a, const LayerGene& b) {
  const int classes = std::min(a.n_classes, b.n_classes);
  int64_t different = 0;
  for (int c = 0; c < classes; ++c) {
    const Bits x = a.row(c), y = b.row(c);
    for (size_t w = 0; w < x.size(); ++w) different += std::popcount(x[w] ^ y[w]);
  }
  return 1 - 2 * static_cast<double>(different) / (static_cast<double>(classes) * a.n_experts);
}

double bias_distance(const LayerGene& a, const LayerGene& b) {
  double sum = 0;
  auto x = a.bias.begin(), y = b.bias.begin();
  while (x != a.bias.end() || y != b.bias.end()) {
    const int at_x = x != a.bias.end() ? x->expert : INT32_MAX, at_y = y != b.bias.end() ? y->expert : INT32_MAX;
    sum += square((at_x <= at_y ? x->value : 0.0) - (at_y <= at_x ? y->value : 0.0));
    if (at_x <= at_y) ++x;
    if (at_y <= at_x) ++y;
  }
  return sum / square(kBias);
}

double width_distance(const LayerGene& a, const LayerGene& b) {
  if (a.narrow == b.narrow) return 0;
  double sum = 0;
  for (int e = 0; e < a.n_experts; ++e) sum += square(static_cast<double>(a.quarters(e) - b.quarters(e)) / kQuarters);
  return sum / square(kWidth);
}

double redirect_distance(const LayerGene& a, const LayerGene& b) {
  if (a.redirect == b.redirect) return 0;
  std::vector<LayerGene::Redirect> both;
  const auto less = [](const auto& x, const auto& y) { return x.from != y.from ? x.from < y.from : x.to < y.to; };
  std::set_symmetric_difference(a.redirect.begin(), a.redirect.end(), b.redirect.begin(), b.redirect.end(),
                                std::back_inserter(both), less);
  return static_cast<double>(both.size()) / square(kRedirect);
}

bool all_but_masks_equal(const LayerGene& a, const LayerGene& b) {
  return a.k_max == b.k_max && a.k_min == b.k_min && a.threshold == b.threshold && a.temperature == b.temperature &&
         a.bias == b.bias && a.narrow == b.narrow && a.redirect == b.redirect;
}

double log_k(int k) { return k > 0 ? mathx::log(k) : -kLogK; }  // a skipped layer is as far from k = 1 as that from 2

// Four sums at once, which compilers turn into vectors.
double dot(const double* a, const double* b, size_t n) {
  double sum[4] = {};
  size_t k = 0;
  for (; k + 4 <= n; k += 4)
    for (size_t j = 0; j < 4; ++j) sum[j] += a[k + j] * b[k + j];
  for (; k < n; ++k) sum[0] += a[k] * b[k];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// A (n, n) symmetric, row-major, its lower half read: becomes L of A = L Lᵀ. Pivots are no less than `least`: rounding, and
// layers of different numbers of classes, could make them so.
void factorise(std::vector<double>& a, size_t n, double least) {
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      const double sum = a[i * n + j] - dot(&a[i * n], &a[j * n], j);
      a[i * n + j] = i == j ? std::sqrt(std::max(sum, least)) : sum / a[j * n + j];
    }
  }
}

// x of L Lᵀ x = b.
std::vector<double> solve(const std::vector<double>& l, std::span<const double> b) {
  const size_t n = b.size();
  std::vector<double> x(b.begin(), b.end());
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < i; ++k) x[i] -= l[i * n + k] * x[k];
    x[i] /= l[i * n + i];
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k) x[i] -= l[k * n + i] * x[k];
    x[i] /= l[i * n + i];
  }
  return x;
}

}  // namespace

Surrogate::Layers Surrogate::layers_of(const Genome& genome) {
  Layers layers;
  for (const LayerRef& l : genome.layers)
    if (l->value.n_experts > 0)
      layers.push_back({l, log_k(l->value.k_max), log_k(l->value.k_min), mathx::log(l->value.temperature)});
  return layers;
}

double Surrogate::covariance(const Layer& x, const Layer& y) {
  constexpr double kSame = 2.5;
  if (x.gene == y.gene) return kSame;
  const LayerGene &a = x.gene->value, &b = y.gene->value;
  const double s = agreement(a, b), masks = s + s * s / 2;
  if (all_but_masks_equal(a, b)) return masks + 1;
  const double d = square((x.log_k_max - y.log_k_max) / kLogK) + square((x.log_k_min - y.log_k_min) / kLogK) +
                   square((a.threshold - b.threshold) / kThreshold) +
                   square((x.log_temperature - y.log_temperature) / kLogTemperature) + bias_distance(a, b) +
                   width_distance(a, b) + redirect_distance(a, b);
  return masks + mathx::exp(-d / 2);
}

double Surrogate::covariance(const Layers& a, const Layers& b) {
  double sum = 0;
  for (size_t l = 0; l < a.size(); ++l) sum += covariance(a[l], b[l]);
  return sum / static_cast<double>(std::max<size_t>(a.size(), 1));
}

void Surrogate::add(const Genome& genome, double prior, double value, bool rough) {
  if (!std::isfinite(prior) || !(value >= 0) || !std::isfinite(value)) return;
  points_.push_back({layers_of(genome), prior, std::sqrt(value), rough ? kRough : 1.0, {}});
  if (points_.size() > most_) points_.pop_front();
  Point& added = points_.back();
  for (const Point& p : points_) added.covariances.push_back(covariance(p.layers, added.layers));
}

void Surrogate::shift(double by) {
  if (!std::isfinite(by)) return;
  for (Point& p : points_) p.root += by;
}

void Surrogate::fit() {
  const size_t n = points_.size();
  const auto scale_of = [&](double Point::*what, double& mean, double& scale) {
    mean = 0, scale = 0;
    for (const Point& p : points_) mean += p.*what / static_cast<double>(n);
    for (const Point& p : points_) scale += square(p.*what - mean) / static_cast<double>(n);
    scale = scale > 0 ? std::sqrt(scale) : 1;
  };
  scale_of(&Point::root, mean_, scale_);
  scale_of(&Point::prior, prior_mean_, prior_scale_);
  std::vector<double> all(n * n), values;
  for (size_t i = 0; i < n; ++i) {
    const Point& p = points_[i];
    for (size_t j = 0; j <= i; ++j)
      all[i * n + j] = kMeanVariance + kSlopeVariance * standard_prior(p.prior) * standard_prior(points_[j].prior) +
                       p.covariances[p.covariances.size() - 1 - i + j];  // some of those before it may be forgotten
    values.push_back((p.root - mean_) / scale_);
  }
  double likeliest = -std::numeric_limits<double>::infinity();
  weights_.assign(n, 0);
  for (const double noise : kNoises) {
    std::vector<double> factor = all;
    for (size_t i = 0; i < n; ++i) factor[i * n + i] += noise * points_[i].noise;
    factorise(factor, n, noise / 2);
    std::vector<double> weights = solve(factor, values);
    double likelihood = 0;  // its logarithm, but for a constant
    for (size_t i = 0; i < n; ++i) likelihood -= values[i] * weights[i] / 2 + mathx::log(factor[i * n + i]);
    if (likelihood > likeliest) likeliest = likelihood, weights_ = std::move(weights);
  }
}

double Surrogate::guess(const Genome& genome, double prior) const {
  MOE_CHECK(weights_.size() == points_.size() && points_.size() >= 2);
  const Layers layers = layers_of(genome);
  double sum = 0;
  for (size_t i = 0; i < points_.size(); ++i)
    sum += weights_[i] * (kMeanVariance + kSlopeVariance * standard_prior(prior) * standard_prior(points_[i].prior) +
                          covariance(layers, points_[i].layers));
  return square(std::max(mean_ + scale_ * sum, 0.0));
}

}  // namespace moe

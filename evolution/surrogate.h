// What a genome will score, guessed from those that were scored: a Gaussian process over genomes (Rasmussen and Williams 2006,
// sections 2.2 and 2.7). Ranking offspring by the errors of their layers says which layer matters; which expert of a layer
// does, forward passes tell, and this remembers. Guesses choose what is measured next; no guess is ever a result.
//
//   √value of g  ~  mean + slope · prior of g + Σ_l f_l(layer l of g)        √: smooth where values come down to 0
//   cov(f_l(a), f_l(b)) = (s + s²/2 + p) / L       s: agreement of the masks of two layers, −1 … 1: experts alone and in pairs
//                                                  p: likeness of all else that layers have (k, threshold, bias, …), 0 … 1
//
// Everything is a function of what was added, in its order: same bits everywhere.
#pragma once

#include <deque>
#include <span>
#include <vector>

#include "evolution/genome.h"

namespace moe {

class Surrogate {
 public:
  // At most so many points are remembered: the oldest go first. A fit takes most³ / 1.5 multiply-adds.
  explicit Surrogate(size_t most = 256) : most_(most) {}

  // prior: what was guessed without this, in any unit. value ≥ 0. rough: it was measured on less text. Not finite: ignored.
  void add(const Genome& genome, double prior, double value, bool rough);
  // Another text: all that was added so far is taken to have been this much larger there, in √value.
  void shift(double by);
  size_t size() const { return points_.size(); }

  // Before the first guess, and after what was added since.
  void fit();
  // Thread-safe between two changes. Wants a fit with two points at least.
  double guess(const Genome& genome, double prior) const;

 private:
  struct Layer {  // a routed one
    LayerRef gene;
    double log_k_max, log_k_min, log_temperature;
  };
  using Layers = std::vector<Layer>;
  struct Point {
    Layers layers;
    double prior, root;               // √value
    double noise;                     // of the usual one
    std::vector<double> covariances;  // with those that were there before it, then with itself
  };
  static Layers layers_of(const Genome& genome);
  static double covariance(const Layer& a, const Layer& b);
  static double covariance(const Layers& a, const Layers& b);
  double standard_prior(double prior) const { return (prior - prior_mean_) / prior_scale_; }

  const size_t most_;
  std::deque<Point> points_;
  double mean_ = 0, scale_ = 1, prior_mean_ = 0, prior_scale_ = 1;
  std::vector<double> weights_;  // (points) of the covariances with them
};

}  // namespace moe

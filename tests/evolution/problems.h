// Problems whose answers are known, and the search loop that runs an algorithm on them: for the tests and for bench-evolution.
// All arithmetic is mathx's: same seed, same figures, on every platform.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/rng.h"
#include "evolution/algorithm.h"

namespace moe::test {

// Real numbers, each from 0 to 1.
struct RealProblem {
  const char* name;
  int n_variables, n_objectives;
  void (*evaluate)(std::span<const double> x, Objectives& f);
};

// Zitzler, Deb, Thiele, 2000: two objectives, 30 variables; front convex, concave, in five pieces.
extern const RealProblem kZdt1, kZdt2, kZdt3;
// Deb, Thiele, Laumanns, Zitzler, 2002, with three objectives: a plane behind 11^5 local fronts; an eighth of a sphere.
extern const RealProblem kDtlz1, kDtlz2;

// Points of the true front of a ZDT problem at n places of the first objective, dominated ones left out.
std::vector<Objectives> zdt_front(const RealProblem& problem, int n);
// Where the 91 Das-Dennis directions meet the front of DTLZ1 or DTLZ2.
std::vector<Objectives> dtlz_targets(const RealProblem& problem);

// Children of real vectors, as Deb's programs make them.
struct RealVariation {
  double crossover_index = 15;  // η of simulated binary crossover: greater is closer to the parents
  double mutation_index = 20;   // η of polynomial mutation, of one variable in n_variables
};

using RealVector = std::vector<double>;
// Simulated binary crossover within bounds (Deb and Agrawal, 1995): the child of the mother's side.
RealVector cross(const RealVector& mother, const RealVector& father, double index, Rng& rng);
// Polynomial mutation within bounds (Deb and Goyal, 1996).
void mutate(RealVector& x, double index, Rng& rng);

// One search, a generation at a time.
class RealSearch {
 public:
  RealSearch(const RealProblem& problem, std::unique_ptr<Algorithm> algorithm, RealVariation variation = {});

  void step();  // one generation
  void step_to(uint32_t generation);
  Algorithm& algorithm() { return *algorithm_; }
  std::vector<Objectives> objectives() const;  // of the population

 private:
  void tell();

  const RealProblem& problem_;
  std::unique_ptr<Algorithm> algorithm_;
  RealVariation variation_;
  std::vector<RealVector> population_, children_;
};

// Bit strings, a value to minimise that is 0 at the optimum.
using BitString = std::vector<uint8_t>;
int zeros(const BitString& x);                  // OneMax
int bits_after_first_zero(const BitString& x);  // LeadingOnes: that zero included
// Each bit flips with probability 1/n. Skips from flip to flip: one draw a flip, not a bit.
void flip_bits(BitString& x, Rng& rng);

// Evaluations that the (1+1)-EA (level-switch with one slot and one child) takes to the optimum of n bits, the first included.
uint64_t evaluations_to_optimum(int (*distance)(const BitString&), int n_bits, uint64_t seed);
// What theory expects of it.
double expected_one_max(int n_bits);       // e·n·ln n − 1.8925·n, up to O(log n) (Hwang et al., 2018)
double expected_leading_ones(int n_bits);  // ½n²((1 − 1/n)^(1−n) − (1 − 1/n)), exact (Böttcher, Doerr, Neumann, 2010)

double median(std::vector<double> values);

}  // namespace moe::test

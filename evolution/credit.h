// How often each operator is used: those whose children did better are drawn more often, none is ever forgotten. Probability
// matching (Goldberg 1990; Thierens, GECCO 2005, section 2.1):
//
//   q_i ← q_i + rate · (r_i − q_i)             r_i: mean gain of operator i in this generation ÷ the largest mean
//   p_i = floor / n + (1 − floor) · q_i / Σ q
//
// Operators that were not drawn keep their q. Gains come in the order of children, so that sums have the same bits whoever
// evaluated them. Not thread-safe to change; drawing is const.
#pragma once

#include <span>
#include <vector>

#include "core/bytes.h"
#include "core/rng.h"
#include "core/status.h"

namespace moe {

struct CreditOptions {
  double rate = 0.1;    // (0, 1]: weight of the latest generation
  double floor = 0.25;  // [0, 1]: share of all draws that is spread evenly; 1: no credit at all
};

class OperatorCredit {
 public:
  explicit OperatorCredit(size_t n_operators, CreditOptions options = {});

  size_t size() const { return probability_.size(); }
  std::span<const double> probabilities() const { return probability_; }  // (n) sums to 1
  size_t draw(Rng& rng) const;                                            // n ≥ 1

  // gain ≥ 0: how much better a child of this operator was than its parents, in any unit; anything else counts as 0.
  void reward(size_t op, double gain);
  void end_generation();

  void save(ByteWriter& out) const;
  Status load(
      ByteReader& in);  // kCorrupt, and nothing changed, when it is not of as many operators or its numbers are not sane

 private:
  void match();

  CreditOptions options_;
  std::vector<double> quality_, probability_;  // (n)
  std::vector<double> gain_;                   // (n) of this generation so far
  std::vector<uint64_t> uses_;                 // (n)
};

}  // namespace moe

#include "evolution/credit.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/check.h"

namespace moe {

OperatorCredit::OperatorCredit(size_t n_operators, CreditOptions options)
    : options_(options), quality_(n_operators, 1), probability_(n_operators), gain_(n_operators, 0), uses_(n_operators, 0) {
  MOE_CHECK(options.rate > 0 && options.rate <= 1 && options.floor >= 0 && options.floor <= 1);
  match();
}

size_t OperatorCredit::draw(Rng& rng) const {
  double left = rng.uniform_double();
  for (size_t i = 0; i + 1 < size(); ++i) {
    if (left < probability_[i]) return i;
    left -= probability_[i];
  }
  return size() - 1;
}

void OperatorCredit::reward(size_t op, double gain) {
  MOE_CHECK(op < size());
  ++uses_[op];
  if (gain > 0 && std::isfinite(gain)) gain_[op] += gain;
}

void OperatorCredit::end_generation() {
  double most = 0;
  for (size_t i = 0; i < size(); ++i)
    if (uses_[i] > 0) most = std::max(most, gain_[i] / static_cast<double>(uses_[i]));
  // A generation without any gain says nothing about who would have made one.
  for (size_t i = 0; i < size() && most > 0; ++i)
    if (uses_[i] > 0) quality_[i] += options_.rate * (gain_[i] / static_cast<double>(uses_[i]) / most - quality_[i]);
  std::fill(gain_.begin(), gain_.end(), 0.0);
  std::fill(uses_.begin(), uses_.end(), uint64_t{0});
  match();
}

void OperatorCredit::match() {
  double sum = 0;
  for (const double q : quality_) sum += q;
  const auto n = static_cast<double>(size());
  for (size_t i = 0; i < size(); ++i)
    probability_[i] = options_.floor / n + (1 - options_.floor) * (sum > 0 ? quality_[i] / sum : 1 / n);
}

// u32 n, then for each operator: f64 quality, f64 gain and u64 uses of the generation that has begun.
void OperatorCredit::save(ByteWriter& out) const {
  out.write(static_cast<uint32_t>(size()));
  for (size_t i = 0; i < size(); ++i) out.write(quality_[i]), out.write(gain_[i]), out.write(uses_[i]);
}

Status OperatorCredit::load(ByteReader& in) {
  uint32_t n = 0;
  if (!in.read(n) || n != size())
    return Status::Corrupt("operator credit: wanted " + std::to_string(size()) + " operators, found " + std::to_string(n));
  OperatorCredit read = *this;
  for (size_t i = 0; i < size(); ++i) {
    double &quality = read.quality_[i], &gain = read.gain_[i];
    const bool whole = in.read(quality) && in.read(gain) && in.read(read.uses_[i]);
    if (!whole || !(quality >= 0 && quality <= 1) || !(gain >= 0 && std::isfinite(gain)))
      return Status::Corrupt("operator credit: operator " + std::to_string(i) +
                             ": wanted a quality from 0 to 1 and a finite gain");
  }
  read.match();
  *this = std::move(read);
  return Status::Ok();
}

}  // namespace moe

// NSGA-III (Deb and Jain, IEEE TEC 2014): the best fronts survive, and of the front that does not fit whole those who serve the
// reference directions with the fewest survivors.
//
// Directions mean something only in objectives of one scale: values are shifted by the ideal point and divided by the
// intercepts of the plane through the extreme points, one near each axis (section IV-C). What is remembered from generation to
// generation: the ideal point, the worst values, the extreme points. All comparisons are of shares of the front's extent, so
// that nothing changes when an objective is given in bytes or in gigabytes.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "evolution/algorithms/makers.h"
#include "evolution/pareto.h"
#include "evolution/reference_points.h"

namespace moe {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kOffAxis = 1e6;     // weight of the other objectives when looking for who is nearest to an axis
constexpr double kNothing = 1e-3;    // a share of the extent that counts as 0 then
constexpr double kNoExtent = 1e-6;   // an intercept that cannot be divided by
constexpr double kExactness = 1e-6;  // residual up to which a solution counts as one

using Matrix = std::array<Objectives, kMostObjectives>;

// x with a·x = (1, …, 1), by elimination with pivots. False: singular, or close to it.
bool solve_for_ones(const Matrix& matrix, int n, Objectives& x) {
  Matrix a = matrix;
  x.fill(1);
  for (int column = 0; column < n; ++column) {
    int pivot = column;
    for (int row = column + 1; row < n; ++row)
      if (std::fabs(a[row][column]) > std::fabs(a[pivot][column])) pivot = row;
    if (a[pivot][column] == 0) return false;
    std::swap(a[pivot], a[column]);
    std::swap(x[pivot], x[column]);
    for (int row = column + 1; row < n; ++row) {
      const double factor = a[row][column] / a[column][column];
      for (int k = column; k < n; ++k) a[row][k] -= factor * a[column][k];
      x[row] -= factor * x[column];
    }
  }
  for (int row = n - 1; row >= 0; --row) {
    for (int k = row + 1; k < n; ++k) x[row] -= a[row][k] * x[k];
    x[row] /= a[row][row];
  }
  for (int row = 0; row < n; ++row) {
    double sum = 0;
    for (int k = 0; k < n; ++k) sum += matrix[row][k] * x[k];
    if (!(std::fabs(sum - 1) <= kExactness)) return false;
  }
  return true;
}

class Nsga3 final : public Algorithm {
 public:
  Nsga3(const AlgorithmOptions& options, std::vector<Objectives> directions)
      : Algorithm("nsga3", options), m_(options.n_objectives), directions_(std::move(directions)) {
    for (Objectives& d : directions_) {
      double length = 0;
      for (int m = 0; m < m_; ++m) length += d[m] * d[m];
      length = std::sqrt(length);
      for (int m = 0; m < m_; ++m) d[m] /= length;
    }
  }

 private:
  // Directions spread the population, so parents are drawn evenly, but for who violates more.
  void mate(Rng& rng, std::span<Mating> matings) const override {
    const std::span<const Score> slots = population();
    mate_by_duels(options().population, options().crossover_rate, rng, matings,
                  [&](uint32_t a, uint32_t b) { return slots[a].violation < slots[b].violation; });
  }

  void survive(std::span<const Score> all, Rng& rng, std::span<uint32_t> survivors) override {
    const Fronts fronts = sort_fronts(all, m_);
    size_t whole = 0;  // members of fronts that fit
    size_t last = 0;   // the front that does not, if any
    while (last < fronts.size() && fronts.begin[last + 1] <= survivors.size()) whole = fronts.begin[++last];
    std::copy_n(fronts.order.begin(), whole, survivors.begin());
    if (all[fronts.order[0]].feasible()) remember(all, fronts[0]);
    if (whole == survivors.size()) return;
    if (!all[fronts[last][0]].feasible()) {  // all violate as much, and directions mean nothing there
      std::copy_n(fronts[last].begin(), survivors.size() - whole, survivors.begin() + static_cast<ptrdiff_t>(whole));
      return;
    }
    const std::span<const uint32_t> candidates = std::span(fronts.order).first(fronts.begin[last + 1]);
    fill_niches(all, candidates, whole, scale_of(all, fronts[0], candidates), rng, survivors);
  }

  // The ideal point, the worst values and the extreme points, with those of the best front.
  void remember(std::span<const Score> all, std::span<const uint32_t> front) {
    if (!seen_) ideal_ = worst_ = all[front[0]].values;
    for (const Score& score : all) {
      if (!score.feasible()) continue;
      for (int m = 0; m < m_; ++m) {
        ideal_[m] = std::min(ideal_[m], score.values[m]);
        worst_[m] = std::max(worst_[m], score.values[m]);
      }
    }
    const Objectives extent = extent_of(all, front);
    Matrix extremes = extremes_;
    for (int axis = 0; axis < m_; ++axis) {
      double nearest = kInfinity;
      const auto look_at = [&](const Objectives& point) {
        double farthest = 0;
        for (int m = 0; m < m_; ++m) {
          const double share = (point[m] - ideal_[m]) / extent[m];
          if (share >= kNothing) farthest = std::max(farthest, share * (m == axis ? 1 : kOffAxis));
        }
        if (farthest >= nearest) return;
        nearest = farthest;
        extremes[axis] = point;
      };
      for (int i = 0; seen_ && i < m_; ++i) look_at(extremes_[i]);
      for (const uint32_t i : front) look_at(all[i].values);
    }
    extremes_ = extremes;
    seen_ = true;
  }

  // Of some points above the ideal one; 1 in an objective where they have none.
  Objectives extent_of(std::span<const Score> all, std::span<const uint32_t> points) const {
    Objectives extent{};
    for (const uint32_t i : points)
      for (int m = 0; m < m_; ++m) extent[m] = std::max(extent[m], all[i].values[m] - ideal_[m]);
    for (int m = 0; m < m_; ++m)
      if (!(extent[m] > 0)) extent[m] = 1;
    return extent;
  }

  // What to divide each objective by: the intercepts, where the extreme points span a plane that has them, no farther out
  // than the worst ever seen; else the extent of the best front, and where that is nothing, of all candidates.
  Objectives scale_of(std::span<const Score> all, std::span<const uint32_t> best, std::span<const uint32_t> candidates) const {
    const Objectives extent = extent_of(all, best);
    Matrix shares{};
    for (int i = 0; i < m_; ++i)
      for (int m = 0; m < m_; ++m) shares[i][m] = (extremes_[i][m] - ideal_[m]) / extent[m];
    Objectives inverse{}, scale = extent;
    bool plane = solve_for_ones(shares, m_, inverse);
    for (int m = 0; m < m_; ++m) plane &= inverse[m] > 0 && 1 / inverse[m] > kNoExtent;
    for (int m = 0; plane && m < m_; ++m) scale[m] = std::min(extent[m] / inverse[m], worst_[m] - ideal_[m]);
    const Objectives whole = extent_of(all, candidates);
    for (int m = 0; m < m_; ++m)
      if (!(scale[m] > kNoExtent * whole[m])) scale[m] = whole[m];
    return scale;
  }

  // The direction whose line a point is nearest to, and how near (squared).
  struct Place {
    uint32_t niche = 0;
    double distance = 0;
  };
  Place place_of(const Score& score, const Objectives& scale) const {
    Objectives x{};
    double square = 0;
    for (int m = 0; m < m_; ++m) {
      x[m] = (score.values[m] - ideal_[m]) / scale[m];
      square += x[m] * x[m];
    }
    Place place;
    double along = -1;
    for (uint32_t d = 0; d < directions_.size(); ++d) {
      double product = 0;
      for (int m = 0; m < m_; ++m) product += x[m] * directions_[d][m];
      if (product > along) along = product, place.niche = d;
    }
    place.distance = square - along * along;
    return place;
  }

  // candidates: the `whole` survivors so far, then the front to choose the rest from. Round by round each of the emptiest
  // niches that has candidates gets one: its nearest when it has nobody yet, else any (algorithm 4 of the paper, a round of
  // whose steps is taken at once).
  void fill_niches(std::span<const Score> all, std::span<const uint32_t> candidates, size_t whole, const Objectives& scale,
                   Rng& rng, std::span<uint32_t> survivors) const {
    std::vector<uint32_t> taken(directions_.size(), 0);
    std::vector<std::vector<uint32_t>> waiting(directions_.size());
    std::vector<double> distance(candidates.size());
    for (uint32_t i = 0; i < candidates.size(); ++i) {
      const Place place = place_of(all[candidates[i]], scale);
      distance[i] = place.distance;
      if (i < whole)
        ++taken[place.niche];
      else
        waiting[place.niche].push_back(i);
    }
    std::vector<uint32_t> emptiest;
    for (size_t filled = whole; filled < survivors.size();) {
      uint32_t fewest = std::numeric_limits<uint32_t>::max();
      for (uint32_t d = 0; d < directions_.size(); ++d)
        if (!waiting[d].empty()) fewest = std::min(fewest, taken[d]);
      emptiest.clear();
      for (uint32_t d = 0; d < directions_.size(); ++d)
        if (!waiting[d].empty() && taken[d] == fewest) emptiest.push_back(d);
      Deck deck(static_cast<uint32_t>(emptiest.size()), rng);
      for (size_t i = 0; i < emptiest.size() && filled < survivors.size(); ++i) {
        const uint32_t niche = emptiest[deck.deal()];
        std::vector<uint32_t>& those = waiting[niche];
        const auto nearer = [&](uint32_t a, uint32_t b) { return distance[a] < distance[b]; };
        const auto one = fewest == 0 ? std::min_element(those.begin(), those.end(), nearer)
                                     : those.begin() + static_cast<ptrdiff_t>(rng.below(those.size()));
        survivors[filled++] = candidates[*one];
        those.erase(one);
        ++taken[niche];
      }
    }
  }

  void forget() override { seen_ = false; }

  void write_state(ByteWriter& out) const override {
    out.write(static_cast<uint8_t>(seen_));
    const auto write = [&](const Objectives& point) {
      for (int m = 0; m < m_; ++m) out.write(point[m]);
    };
    write(ideal_);
    write(worst_);
    for (int i = 0; i < m_; ++i) write(extremes_[i]);
  }

  bool read_state(ByteReader& in) override {
    uint8_t seen;
    if (!in.read(seen) || seen > 1) return false;
    Objectives ideal{}, worst{};
    Matrix extremes{};
    const auto read = [&](Objectives& point) {
      for (int m = 0; m < m_; ++m)
        if (!in.read(point[m]) || !std::isfinite(point[m])) return false;
      return true;
    };
    if (!read(ideal) || !read(worst)) return false;
    for (int i = 0; i < m_; ++i)
      if (!read(extremes[i])) return false;
    seen_ = seen != 0, ideal_ = ideal, worst_ = worst, extremes_ = extremes;
    return true;
  }

  const int m_;
  std::vector<Objectives> directions_;  // of length 1
  bool seen_ = false;                   // somebody feasible: the rest means something
  Objectives ideal_{}, worst_{};
  Matrix extremes_{};  // (m_, m_): the point nearest to each axis
};

}  // namespace

Result<std::unique_ptr<Algorithm>> make_nsga3(const AlgorithmOptions& given) {
  AlgorithmOptions own;
  own.population = 100;
  own.crossover_rate = 1;
  std::vector<Objectives> directions;
  if (given.divisions != 0) {
    MOE_ASSIGN(directions, das_dennis_points(given.n_objectives, given.divisions));
    own.population = (static_cast<uint32_t>(directions.size()) + 3) / 4 * 4;
  }
  MOE_ASSIGN(const AlgorithmOptions options, complete_options("nsga3", given, own, 2, kMostObjectives));
  if (directions.empty()) directions = reference_points_for(options.n_objectives, options.population);
  if (directions.empty())
    return Status::InvalidArgument("nsga3: wanted a population of at least one slot an objective, found " +
                                   std::to_string(options.population) + " for " + std::to_string(options.n_objectives));
  return std::unique_ptr<Algorithm>(std::make_unique<Nsga3>(options, std::move(directions)));
}

}  // namespace moe

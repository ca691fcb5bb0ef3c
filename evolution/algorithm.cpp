// What all algorithms share: the order of calls, the checks of what is told, and the saved state:
//
//   u32 magic "EVO1" | u32 length | describe() of that length | u32 generation
//   then, unless generation is 0, of each slot: f64 violation, f64 value × objectives; then the algorithm's own state
#include "evolution/algorithm.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/check.h"
#include "evolution/streams.h"

namespace moe {
namespace {

constexpr uint32_t kMagic = 0x314f5645;  // "EVO1"

Status check_score(const Score& score, int n_objectives, const char* whose, size_t i) {
  const auto refuse = [&](const std::string& what, double found) {
    return Status::InvalidArgument(std::string(whose) + " " + std::to_string(i) + ": wanted " + what + ", found " +
                                   std::to_string(found));
  };
  if (!(score.violation >= 0)) return refuse("a violation of 0 or more", score.violation);
  if (score.dropped()) return {};
  for (int m = 0; m < n_objectives; ++m)
    if (!std::isfinite(score.values[m])) return refuse("a finite objective " + std::to_string(m), score.values[m]);
  return {};
}

Status check_scores(std::span<const Score> scores, int n_objectives, const char* whose) {
  for (size_t i = 0; i < scores.size(); ++i) MOE_TRY(check_score(scores[i], n_objectives, whose, i));
  return {};
}

// All that decisions depend on, so that a search is not continued with other settings.
std::string describe(const char* name, const AlgorithmOptions& o) {
  char numbers[256];
  std::snprintf(numbers, sizeof numbers,
                ": %d objectives, seed %llu, population %u, children %u, crossover rate %.17g, pressure %.17g, elites %u, "
                "divisions %d, selection '",
                o.n_objectives, static_cast<unsigned long long>(o.seed), o.population, o.children, o.crossover_rate, o.pressure,
                o.elites, o.divisions);
  return name + (numbers + o.selection) + "'";
}

Status truncated() { return Status::Corrupt("saved search: bytes are missing"); }

Status wrong_count(const char* of, size_t wanted, size_t found) {
  return Status::InvalidArgument("wanted scores of " + std::to_string(wanted) + " " + of + ", found " + std::to_string(found));
}

}  // namespace

std::span<const Mating> Algorithm::ask() {
  if (generation_ > 0 && !asked_) {
    matings_.resize(options_.children);
    Rng rng = stream_of(options_.seed, Purpose::kMating, generation_);
    mate(rng, matings_);
    asked_ = true;
  }
  return asked_ ? std::span<const Mating>(matings_) : std::span<const Mating>();
}

Status Algorithm::tell(std::span<const Score> children) {
  if (generation_ == 0 && children.size() < options_.population)
    return wrong_count("first candidates or more", options_.population, children.size());
  if (generation_ > 0 && children.size() != options_.children)
    return wrong_count("children", options_.children, children.size());
  MOE_TRY(check_scores(children, options_.n_objectives, "child"));

  all_.assign(population_.begin(), population_.end());
  all_.insert(all_.end(), children.begin(), children.end());
  survivors_.resize(options_.population);
  Rng rng = stream_of(options_.seed, Purpose::kSurvival, generation_);
  survive(all_, rng, survivors_);
  population_.clear();
  for (const uint32_t i : survivors_) population_.push_back(all_[i]);
  ++generation_;
  asked_ = false;
  return {};
}

Status Algorithm::rescore(std::span<const Score> population) {
  if (population.size() != population_.size()) return wrong_count("slots", population_.size(), population.size());
  MOE_TRY(check_scores(population, options_.n_objectives, "slot"));
  population_.assign(population.begin(), population.end());
  forget();
  asked_ = false;
  return {};
}

void Algorithm::save(ByteWriter& out) const {
  const std::string settings = describe(name_, options_);
  out.write(kMagic);
  out.write(static_cast<uint32_t>(settings.size()));
  out.write_bytes(settings.data(), settings.size());
  out.write(generation_);
  for (const Score& score : population_) {
    out.write(score.violation);
    for (int m = 0; m < options_.n_objectives; ++m) out.write(score.values[m]);
  }
  write_state(out);
}

Status Algorithm::restore(ByteReader& in) {
  uint32_t magic, size, generation;
  std::string_view settings;
  if (!in.read(magic)) return truncated();
  if (magic != kMagic) return Status::Corrupt("saved search: does not begin with EVO1");
  if (!in.read(size) || !in.read_view(size, settings) || !in.read(generation)) return truncated();
  const std::string wanted = describe(name_, options_);
  if (settings != wanted) return Status::InvalidArgument("saved search: wanted " + wanted + ", found " + std::string(settings));

  std::vector<Score> population(generation > 0 ? options_.population : 0);
  for (Score& score : population) {
    if (!in.read(score.violation)) return truncated();
    for (int m = 0; m < options_.n_objectives; ++m)
      if (!in.read(score.values[m])) return truncated();
  }
  if (const Status checked = check_scores(population, options_.n_objectives, "slot"); !checked.ok())
    return Status::Corrupt("saved search: " + checked.message());
  if (!read_state(in)) return Status::Corrupt("saved search: the state of " + std::string(name_) + " is incomplete");
  generation_ = generation;
  population_ = std::move(population);
  survivors_.clear();
  asked_ = false;
  return {};
}

}  // namespace moe

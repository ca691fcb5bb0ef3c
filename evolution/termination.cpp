#include "evolution/termination.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace moe {
namespace {

constexpr uint32_t kLongestWindow = 1'000'000;
constexpr const char* kReasons[] = {"running",      "target reached", "generations used up", "evaluations used up",
                                    "time used up", "no progress"};

Status refuse(const std::string& what, double found) {
  return Status::InvalidArgument("termination: wanted " + what + ", found " + std::to_string(found));
}

Status incomplete() { return Status::Corrupt("saved search: the progress of its last generations is incomplete"); }

}  // namespace

const char* search_end_name(SearchEnd reason) { return kReasons[static_cast<size_t>(reason)]; }

Result<Termination> Termination::make(const TerminationLimits& limits) {
  if (!(limits.seconds >= 0)) return refuse("seconds of 0 or more", limits.seconds);
  if (!(limits.gain >= 0)) return refuse("a gain of 0 or more", limits.gain);
  if (limits.target && std::isnan(*limits.target)) return refuse("a number as target", *limits.target);
  if (limits.window > kLongestWindow) return refuse("a window of at most a million generations", limits.window);
  if (limits.gain > 0 && limits.window == 0) return refuse("a window of generations to go with the gain", 0);
  if (limits.evaluations == 0 && limits.generations == 0 && limits.seconds == 0 && !limits.target && limits.window == 0)
    return Status::InvalidArgument(
        "termination: wanted a limit of evaluations, generations, time, target or stagnation, found none");
  return Termination(limits);
}

SearchEnd Termination::after(const SearchProgress& p) {
  if (limits_.window > 0) {
    const double before = best_.empty() ? std::numeric_limits<double>::infinity() : best_.back();
    if (best_.size() > limits_.window) best_.erase(best_.begin());
    best_.push_back(p.measure < before ? p.measure : before);
  }
  if (limits_.target && p.measure <= *limits_.target) return SearchEnd::kTarget;
  if (limits_.generations > 0 && p.generation >= limits_.generations) return SearchEnd::kGenerations;
  if (limits_.evaluations > 0 && p.evaluations >= limits_.evaluations) return SearchEnd::kEvaluations;
  if (limits_.seconds > 0 && p.seconds >= limits_.seconds) return SearchEnd::kTime;
  if (limits_.window > 0 && best_.size() > limits_.window) {
    const double was = best_.front(), is = best_.back();
    const bool fell = std::isfinite(was) ? was - is > limits_.gain * std::fabs(was) : is < was;
    if (!fell) return SearchEnd::kStagnation;
  }
  return SearchEnd::kRunning;
}

void Termination::save(ByteWriter& out) const {
  out.write(static_cast<uint32_t>(best_.size()));
  for (const double best : best_) out.write(best);
}

Status Termination::restore(ByteReader& in) {
  uint32_t n;
  if (!in.read(n)) return incomplete();
  if (n > limits_.window + (limits_.window > 0))
    return Status::InvalidArgument("saved search: stagnation was watched over more generations");
  std::vector<double> best(n);
  for (double& b : best)
    if (!in.read(b) || std::isnan(b)) return incomplete();
  best_ = std::move(best);
  return {};
}

}  // namespace moe

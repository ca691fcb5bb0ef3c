#include "evolution/objectives.h"

#include <cmath>

#include "core/mathx.h"

namespace moe {
namespace {

double perplexity(const Evaluation& e) { return std::isfinite(e.nll) ? mathx::exp(e.nll) : kNotMeasured; }

// The value of an Evaluation that a row is.
template <double Evaluation::*value>
double take(const Evaluation& e) {
  return e.*value;
}

constexpr bool kLess = false, kMore = true;

constexpr ObjectiveDef kObjectives[] = {
    {"kl", "nats", "divergence from the full model, nats a token", kLess, Tier::kForward, take<&Evaluation::kl>},
    {"worst-domain-kl", "nats", "the same on the text that suffers most", kLess, Tier::kForward,
     take<&Evaluation::worst_domain_kl>},
    {"perplexity", "", "of the text itself", kLess, Tier::kForward, perplexity},
    {"accuracy", "", "share of multiple-choice questions answered right", kMore, Tier::kChoices, take<&Evaluation::accuracy>},
    {"active-flops", "FLOP", "operations a token, 2 for each weight used", kLess, Tier::kScreen,
     take<&Evaluation::active_flops>},
    {"expert-flops", "FLOP", "those of routed experts alone", kLess, Tier::kScreen, take<&Evaluation::expert_flops>},
    {"bytes-per-token", "B", "weights read to decode one token alone", kLess, Tier::kScreen,
     take<&Evaluation::bytes_per_token>},
    {"resident-bytes", "B", "weights of the specialised file", kLess, Tier::kScreen, take<&Evaluation::resident_bytes>},
    {"latency", "ms", "modelled time to decode a token on the device", kLess, Tier::kScreen, take<&Evaluation::latency_ms>},
    {"kept-share", "", "experts kept of those the model has", kLess, Tier::kScreen, take<&Evaluation::kept_share>},
    {"active-experts", "", "experts a token uses, mean over layers", kLess, Tier::kScreen, take<&Evaluation::k_mean>},
    {"load-balance", "", "coefficient of variation of experts' loads", kLess, Tier::kScreen, take<&Evaluation::load_cv>},
    {"diversity", "", "entropy of experts' loads, 1: all alike", kMore, Tier::kScreen, take<&Evaluation::diversity>},
    {"layer-error", "nats", "divergence predicted from single layers, for trials without forward passes", kLess, Tier::kScreen,
     take<&Evaluation::layer_error>},
};

Status not_measured(const ObjectiveDef& o) {
  return Status::Internal(std::string("objective ") + o.name + ": wanted a value, found it not measured");
}

// How far beyond the limit, as a share of it; of limit 0: as it is.
double excess(const ObjectiveLimit& l, double value) {
  const double beyond = l.objective->maximise ? l.limit - value : value - l.limit;
  if (!(beyond > 0)) return 0;
  return l.limit != 0 ? beyond / std::fabs(l.limit) : beyond;
}

}  // namespace

std::span<const ObjectiveDef> all_objectives() { return kObjectives; }

Result<const ObjectiveDef*> find_objective(std::string_view name) {
  for (const ObjectiveDef& o : kObjectives)
    if (name == o.name) return &o;
  std::string names;
  for (const ObjectiveDef& o : kObjectives) names += (names.empty() ? "" : ", ") + std::string(o.name);
  return Status::NotFound("objective: wanted one of " + names + ", found '" + std::string(name) + "'");
}

Result<Score> ObjectiveSet::score(const Evaluation& evaluation) const {
  MOE_CHECK(!objectives.empty() && objectives.size() <= static_cast<size_t>(kMostObjectives));
  Score score;
  if (evaluation.dropped) {
    score.violation = kDropped;
    return score;
  }
  for (size_t m = 0; m < objectives.size(); ++m) {
    const double value = objectives[m]->value(evaluation);
    if (std::isnan(value)) return not_measured(*objectives[m]);
    score.values[m] = objectives[m]->maximise ? -value : value;
  }
  for (const ObjectiveLimit& l : limits) {
    const double value = l.objective->value(evaluation);
    if (std::isnan(value)) return not_measured(*l.objective);
    score.violation += excess(l, value);
  }
  return sum ? (*sum)(score) : score;
}

}  // namespace moe

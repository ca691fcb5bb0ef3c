// The table of saliencies. AIMER (arXiv 2603.18492), which reads weights instead of activations, is not among them: it is no
// function of a calibration.
#include "evolution/saliency.h"

#include <numeric>
#include <string>

namespace moe {
namespace {

double mean(double sum, double n) { return n > 0 ? sum / n : 0; }

constexpr SaliencyDef kSaliencies[] = {
    {"frequency", "|T_e| / |T|", "share of the tokens that use the expert", "as in NAEE, arXiv 2402.14800",
     [](const ExpertSums& s) { return mean(s.use, s.tokens); }},
    {"gate", "Σ_{T_e} g", "sum of its routing weights", "soft counting: arXiv 2404.05089",
     [](const ExpertSums& s) { return s.gate; }},
    {"ean", "Σ_{T_e} ‖E(x)‖", "sum of the lengths of its outputs", "expert activation norm, as in REAP",
     [](const ExpertSums& s) { return s.norm; }},
    {"reap", "mean_{T_e} g · ‖E(x)‖", "mean length of what it adds", "REAP, arXiv 2510.13999 §4",
     [](const ExpertSums& s) { return mean(s.gate_norm, s.use); }},
    {"man", "mean_{T_e} ‖E(x)‖", "mean length of its outputs, however often it is used", "arXiv 2606.15716",
     [](const ExpertSums& s) { return mean(s.norm, s.use); }},
};

ExpertSums sums_of(const Calibration& c, const LayerCalibration& l, int expert, int token_class) {
  const auto E = static_cast<size_t>(l.n_experts), e = static_cast<size_t>(expert);
  if (token_class < 0) {
    const auto tokens = static_cast<double>(std::accumulate(c.tokens.begin(), c.tokens.end(), int64_t{0}));
    return {tokens, static_cast<double>(l.total(l.use, expert)), l.total(l.gate, expert), l.total(l.norm, expert),
            l.total(l.gate_norm, expert)};
  }
  const auto cls = static_cast<size_t>(token_class);
  const size_t i = cls * E + e;
  return {static_cast<double>(c.tokens[cls]), static_cast<double>(l.use[i]), l.gate[i], l.norm[i], l.gate_norm[i]};
}

}  // namespace

std::span<const SaliencyDef> all_saliencies() { return kSaliencies; }

Result<const SaliencyDef*> find_saliency(std::string_view name) {
  std::string known;
  for (const SaliencyDef& s : kSaliencies) {
    if (name == s.name) return &s;
    known += (known.empty() ? "" : ", ") + std::string(s.name);
  }
  return Status::NotFound("saliency '" + std::string(name) + "'; known: " + known);
}

std::vector<std::vector<float>> saliency_table(const SaliencyDef& saliency, const Calibration& calibration, int token_class) {
  MOE_CHECK(token_class < calibration.n_classes);
  std::vector<std::vector<float>> table;
  for (const LayerCalibration& l : calibration.layers) {
    std::vector<float>& row = table.emplace_back();
    for (int e = 0; e < l.n_experts; ++e)
      row.push_back(static_cast<float>(saliency.score(sums_of(calibration, l, e, token_class))));
  }
  return table;
}

}  // namespace moe

// How much a layer's experts matter, one number an expert, from a calibration alone: what pruning by rank goes by, and where a
// search begins. Additive by construction: none of them sees that two experts can stand in for each other.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "evolution/calibration.h"

namespace moe {

struct ExpertSums {
  double tokens = 0;     // of the text, or of one class
  double use = 0;        // those that used the expert
  double gate = 0;       // Σ g over them
  double norm = 0;       // Σ ‖E(x)‖
  double gate_norm = 0;  // Σ g · ‖E(x)‖
};

struct SaliencyDef {
  const char* name;
  const char* formula;  // T: tokens, T_e: those that used expert e, g: routing weight
  const char* help;
  const char* source;
  double (*score)(const ExpertSums&);  // larger: keep
};

std::span<const SaliencyDef> all_saliencies();
Result<const SaliencyDef*> find_saliency(std::string_view name);  // kNotFound lists the names there are

// (n layers)(n_experts), empty for dense layers: Guides::saliency of a search. Of tokens of one class, or of all with −1.
std::vector<std::vector<float>> saliency_table(const SaliencyDef& saliency, const Calibration& calibration,
                                               int token_class = -1);

}  // namespace moe

// analysis.json beside a search's journal: what a report shows that no journal has. Loads and saliency of the model's experts
// as calibration found them, and the names of the operators whose shares the journal lists.
//
//   {"format": "moe-analysis", "version": 1, "domains": [name…], "tokens": of the calibration text,
//    "mutations": [name…], "crossovers": [name…],
//    "layers": [{"experts": 16, "use": [tokens…], "domain_use": [[tokens…]…], "reap": [score…]}…]}
//
// A dense layer is {"experts": 0}.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "evolution/breed.h"
#include "evolution/calibration.h"

namespace moe::tools {

struct RunAnalysis {
  struct Layer {
    std::vector<double> use;                      // (n_experts) tokens that used the expert; empty: a dense layer
    std::vector<std::vector<double>> domain_use;  // (n_domains)(n_experts)
    std::vector<double> reap;                     // (n_experts) REAP score
  };
  std::vector<std::string> domains;
  double tokens = 0;
  std::vector<std::string> mutations, crossovers;  // in the order of SearchStatistics' shares
  std::vector<Layer> layers;
};

// `domains`: names, one for each of the calibration's.
RunAnalysis analysis_of(const Calibration& calibration, std::span<const std::string> domains, const Variation& variation);

std::string to_json(const RunAnalysis& analysis);
// kCorrupt names the path, wanted and found.
Result<RunAnalysis> analysis_from_json(std::string_view text);

Result<RunAnalysis> read_analysis(const std::string& path);
Status write_analysis(const RunAnalysis& analysis, const std::string& path);  // whole or not at all

}  // namespace moe::tools

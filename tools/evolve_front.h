// What a search leaves: topologies of the points, and front.json with their numbers beside those of simpler ways.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "evolution/search.h"
#include "models/model.h"
#include "tools/evolve_config.h"
#include "tools/evolve_seeds.h"
#include "tools/front_file.h"

namespace moe::tools {

struct FrontFacts {  // what the file says besides the points
  const EvolveConfig* config = nullptr;
  const Model* model = nullptr;
  const TextData* text = nullptr;
  std::vector<int64_t> domain_tokens;  // that were read of each text
  std::optional<DeviceProfile> device;
  ObjectiveSet objectives;
  FrontFile::Spent spent;
};

// Measures the simple points on the whole selection text, then all on the held-out text, once, and writes FOLDER/p00.json …
// and FOLDER/front.json. `simple` begins with the full model.
Result<FrontFile> write_result(const FrontFacts& facts, Evaluator& evaluator, std::span<const Candidate> front,
                               std::span<const NamedGenome> simple, const std::string& folder);

// The point with the least weighted sum of the objectives, each as a share of the full model's value or, where that is 0, of
// the largest in the front; "" without weights or points.
std::string chosen_point(const EvolveConfig& config, const FrontFile& front);

// A row for the full model, the best baselines and each point.
std::string front_table(const FrontFile& front);
// "0.0123", "7.1 MB": of an objective.
std::string value_text(const ObjectiveDef& objective, double value);

}  // namespace moe::tools

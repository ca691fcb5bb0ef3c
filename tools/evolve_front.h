// What a search leaves: topologies of the points, and front.json with their numbers beside those of simpler ways; of several
// devices front-edge.json … as well, whose points share the topologies.
#pragma once

#include <string>
#include <vector>

#include "evolution/search.h"
#include "models/model.h"
#include "tools/evolve_config.h"
#include "tools/evolve_measure.h"
#include "tools/evolve_seeds.h"
#include "tools/front_file.h"

namespace moe::tools {

struct FrontFacts {  // what the file says besides the points
  const EvolveConfig* config = nullptr;
  const Model* model = nullptr;
  const TextData* text = nullptr;
  std::vector<int64_t> domain_tokens;  // that were read of each text
  std::vector<DeviceProfile> devices;  // the first priced the search's objectives
  ObjectiveSet objectives;
  FrontFile::Spent spent;
};

// Candidates that are points of some front: those of front.json first.
struct FoundPoints {
  std::vector<Candidate> candidates;
  size_t n_front = 0;
  std::vector<std::vector<size_t>> of_device;  // indices; as many as there are devices, or none
};

struct WrittenResult {
  FrontFile front;
  std::vector<std::pair<std::string, FrontFile>> devices;  // file's path
};

// Measures the simple points on the whole selection text, then all on the held-out text, once, and writes FOLDER/p00.json …
// and the fronts. `simple` begins with the full model.
Result<WrittenResult> write_result(const FrontFacts& facts, Evaluator& evaluator, const FoundPoints& found,
                                   std::span<const NamedGenome> simple, const std::string& folder);

// The point with the least weighted sum of the objectives, each as a share of the full model's value or, where that is 0, of
// the largest in the front; "" without weights or points.
std::string chosen_point(const EvolveConfig& config, const FrontFile& front);

// Full model, baselines and points of a front to measure with a clock. At most so many points, evenly spread.
std::vector<MeasureItem> items_to_measure(FrontFile& front, const RoutingShape& shape, std::span<const NamedGenome> simple,
                                          const FoundPoints& found, size_t most);

// A row for the full model, the best baselines and each point.
std::string front_table(const FrontFile& front);
// "0.0123", "7.1 MB": of an objective.
std::string value_text(const ObjectiveDef& objective, double value);

}  // namespace moe::tools

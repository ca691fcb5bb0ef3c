// Writes the physically smaller model of a topology: experts that it never runs are gone, all others are cut to the width that
// it leaves them, and what is left of the topology goes into the file. The new model gives the bits of the old one under the
// topology.
//
//   MOE_ASSIGN(SpecialisePlan plan, plan_specialise(model, topology));
//   MOE_TRY(write_specialised(plan, pool, "small.gguf", {}));
//
// Weights are copied block by block, never encoded again. Memory stays at a few megabytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/expert_cut.h"
#include "models/model.h"
#include "models/weight_stream.h"

namespace moe {

// Keys that say where such a file comes from (models/io/README.md).
inline constexpr const char *kSpecialisedHash = "moe.specialised.hash", *kSpecialisedModels = "moe.specialised.models",
                            *kSpecialisedTopologies = "moe.specialised.topologies";

// What another GGUF engine makes of the new file.
enum class Elsewhere {
  kAlike,        // the same results
  kDifferently,  // it runs, without what is left of the topology
  kRefused,      // its layers differ
};

struct SpecialisePlan {
  struct Step {
    const TensorInfo* tensor;  // in the input file
    std::vector<int64_t> shape;
    uint64_t bytes;                // in the new file
    std::optional<ExpertCut> cut;  // none: all of it
  };
  struct Layer {  // a routed one
    int index = 0;
    int experts_before = 0, experts = 0;  // that have weights
    int rows = 0;                         // of the router
    int width_before = 0, width = 0;
    int k = 0;
    uint64_t bytes_before = 0, bytes = 0;  // of all tensors that are cut
    double wanted = 1;                     // expert bytes that the topology needs, of those before (TopologySummary::bytes)
    double kept = 1;                       // and that the file keeps: more where widths differ in a layer
  };
  std::vector<Step> steps;  // in file order
  std::vector<Layer> layers;
  Metadata metadata;          // of the new file
  RoutingTopology topology;   // that the new model starts with
  bool has_topology = false;  // whether it is more than the metadata's own keys say, and so in the file
  uint64_t hash = 0;          // content hash of the new file
  Elsewhere elsewhere = Elsewhere::kAlike;
  std::vector<std::string> notes;  // for people: what other engines do differently, what could not be cut
  uint64_t bytes_before = 0, bytes_after = 0;
};

// Refuses topologies of another model, models without experts, and files with tensors that cannot be cut. What a checkpoint has
// for training is left out. The plan points into the model's file.
Result<SpecialisePlan> plan_specialise(const Model& model, const RoutingTopology& topology);

// Nothing is seen under `path` unless all went well.
Status write_specialised(const SpecialisePlan& plan, ThreadPool& pool, const std::string& path,
                         const WeightStream::OnWritten& on_written);

}  // namespace moe

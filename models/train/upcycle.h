// A dense model as a mixture of experts that computes the same: where training of the mixture begins ("sparse upcycling",
// Komatsuzaki et al., arXiv 2212.05055; slices in virtual groups: He et al., arXiv 2410.07524).
//
//   ffn of a layer   gate, up (f, d)   down (d, f)
//        │ cut into `slices` runs of f / slices hidden channels
//        ▼
//   experts          copy 0: slice 0, slice 1, …   copy 1: slice 0, slice 1, …      n_experts = copies · slices
//   router           one random row a copy, the same for all of its slices: a token gets whole copies
#pragma once

#include <string>

#include "models/io/gguf.h"
#include "models/weight_stream.h"

namespace moe {

struct UpcycleOptions {
  int copies = 8;       // of the dense layer
  int used = 2;         // copies that a token uses
  int slices = 1;       // experts that a copy is cut into
  float noise = 0.01f;  // deviation of what is added to the copies' weights, relative to that of the tensor; copy 0 gets none
  uint64_t seed = 0;
};

struct UpcyclePlan {
  struct Step {
    const TensorInfo* tensor = nullptr;  // of the dense file; null: a router
    std::string name;
    std::vector<int64_t> shape;  // outermost first
    DType type;
    bool experts = false;
  };
  Metadata metadata;
  std::vector<Step> steps;
  UpcycleOptions options;
  uint64_t bytes = 0;
};

// kInvalidArgument for files that are no dense llama, and numbers that do not fit: names them. The plan points into the file.
Result<UpcyclePlan> plan_upcycle(const GgufFile& dense, const UpcycleOptions& options);

// Nothing is seen under `path` unless all went well.
Status write_upcycled(const UpcyclePlan& plan, ThreadPool& pool, const std::string& path,
                      const WeightStream::OnWritten& on_written);

}  // namespace moe

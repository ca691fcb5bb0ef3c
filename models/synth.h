// A model with random weights: right in every key, tensor and shape of its architecture, for tests, benchmarks and the demo.
// Deterministic: the same options give the same bytes, whatever the number of threads or the machine.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/config.h"
#include "models/weight_stream.h"

namespace moe {

struct SynthOptions {
  std::string arch;
  std::vector<std::string> settings;     // "n_layer=8": config_names(), or the file's own "block_count=8"
  std::string type = "f32";              // a name of quant_mixes()
  uint64_t seed = 0;                     //
  const Metadata* vocabulary = nullptr;  // of another model: its tokenizer.* keys; null: 256 bytes and a few special tokens
};

// A model that is ready to be written.
struct SynthPlan {
  struct Step {
    std::string name;
    std::vector<int64_t> shape;  // outermost first
    DType type;
    float mean, deviation;  // of the normal distribution the values come from
    uint64_t stream;        // of the generator
  };
  Metadata metadata;
  ModelConfig config;
  std::vector<Step> steps;
  uint64_t seed = 0;
  uint64_t bytes = 0;
  int64_t elements = 0;
};

// "n_layer", "d_model", … in the order of ModelConfig.
std::vector<std::string> config_names();

// kInvalidArgument for settings that are unknown or no numbers; what the architecture refuses comes from its own checks.
Result<SynthPlan> plan_synth(const SynthOptions& options);

// Nothing is seen under `path` unless all went well.
Status write_synth(const SynthPlan& plan, ThreadPool& pool, const std::string& path, const WeightStream::OnWritten& on_written);

}  // namespace moe

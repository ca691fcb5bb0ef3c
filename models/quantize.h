// Writes a model again with its weights in other storage formats (quant_mix.h says which).
//
//   MOE_ASSIGN(QuantizePlan plan, plan_quantize(file, options));
//   MOE_TRY(write_quantized(file, plan, pool, "out.gguf", {}));
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/io/gguf.h"
#include "models/quant_mix.h"
#include "models/weight_stream.h"

namespace moe {

struct QuantizePlan {
  struct Step {
    const TensorInfo* tensor;  // in the input file
    DType type;
    uint64_t bytes;        // in the new file
    bool requantized;      // from one quantised format to another, which adds error to error
    std::string fallback;  // why the type is not the one wanted, or ""
  };
  std::vector<Step> steps;  // in file order
  Metadata metadata;        // of the new file
  uint64_t bytes_before = 0, bytes_after = 0;
  int64_t elements = 0;
};

// Refuses files with tensors of unknown types. What a checkpoint has for training is left out. The plan points into the file.
Result<QuantizePlan> plan_quantize(const GgufFile& file, const TypeChoiceOptions& options);

// Nothing is seen under `path` unless all went well. Weights that are not finite numbers are refused, naming the tensor.
Status write_quantized(const GgufFile& file, const QuantizePlan& plan, ThreadPool& pool, const std::string& path,
                       const WeightStream::OnWritten& on_written);

}  // namespace moe

// One GGUF file's bytes, checked: the step below GgufFile, which joins the parts of split models. Private to models/io.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "models/io/gguf.h"

namespace moe {

struct GgufPart {
  uint32_t version = 0;
  Metadata metadata;
  std::vector<TensorInfo> tensors;
  std::vector<UnsupportedTensor> unsupported;
};

// Checks every field before it is used; the tensors' data views `bytes`. Names may still repeat.
Result<GgufPart> parse_gguf_part(std::span<const std::byte> bytes, const std::string& name);

}  // namespace moe

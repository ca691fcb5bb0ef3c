// Element types of tensors: the rows of dtypes.def as an enum with traits and codecs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/status.h"

namespace moe {

enum class DType : uint8_t {
#define MOE_DTYPE(Enum, name, gguf_id, block_elements, block_bytes) k##Enum,
#define MOE_ACT(Enum, name, block_elements, block_bytes) k##Enum,
#define MOE_PLAIN(Enum, name, gguf_id, bytes) k##Enum,
#include "tensor/dtypes.def"
};

inline constexpr int kNumDTypes = 0
#define MOE_DTYPE(Enum, name, gguf_id, block_elements, block_bytes) +1
#define MOE_ACT(Enum, name, block_elements, block_bytes) +1
#define MOE_PLAIN(Enum, name, gguf_id, bytes) +1
#include "tensor/dtypes.def"
    ;

inline constexpr uint32_t kNoGgufId = ~uint32_t{0};  // of formats that no file holds

struct DTypeTraits {
  DType dtype;
  const char* name;    // "q4_k"
  uint32_t gguf_id;    // ggml_type number in GGUF files, or kNoGgufId
  int block_elements;  // elements that share one block; 1 for plain floats
  size_t block_bytes;
  bool is_weight;  // has a codec: may hold weights
  // n elements, a multiple of block_elements; null for plain types.
  void (*decode)(const void* blocks, float* out, int64_t n);
  // importance: n/a when null, else per-element weights ≥ 0 of the squared error, (n); every encoder accepts null.
  void (*encode)(const float* x, const float* importance, void* blocks, int64_t n);
};

const DTypeTraits& traits(DType t);
std::span<const DTypeTraits> all_dtypes();         // in the order of dtypes.def
Result<DType> dtype_from_gguf(uint32_t gguf_id);   // kUnsupported names the number
Result<DType> parse_dtype(std::string_view name);  // lists the valid names on error

// Bytes of n elements; n must be a multiple of the block (checked).
size_t dtype_bytes(DType t, int64_t n);

}  // namespace moe

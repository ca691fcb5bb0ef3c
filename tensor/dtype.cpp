// The traits table: dtypes.def, with the codecs of tensor/formats behind void pointers.
#include "tensor/dtype.h"

#include <iterator>

#include "core/check.h"
#include "tensor/formats/formats.h"

namespace moe {
namespace {

// decode_<name> and encode_<name> count blocks and are typed; the traits count elements and are not.
#define MOE_DTYPE(Enum, name, gguf_id, block_elements, block_bytes)                          \
  static_assert(sizeof(Block##Enum) == (block_bytes));                                       \
  void decode_any_##name(const void* blocks, float* out, int64_t n) {                        \
    decode_##name(static_cast<const Block##Enum*>(blocks), out, n / (block_elements));       \
  }                                                                                          \
  void encode_any_##name(const float* x, const float* importance, void* blocks, int64_t n) { \
    encode_##name(x, importance, static_cast<Block##Enum*>(blocks), n / (block_elements));   \
  }
#include "tensor/dtypes.def"

constexpr DTypeTraits kTraits[] = {
#define MOE_DTYPE(Enum, name, gguf_id, block_elements, block_bytes) \
  {DType::k##Enum, #name, gguf_id, block_elements, block_bytes, true, decode_any_##name, encode_any_##name},
#define MOE_ACT(Enum, name, block_elements, block_bytes) \
  {DType::k##Enum, #name, kNoGgufId, block_elements, block_bytes, false, nullptr, nullptr},
#define MOE_PLAIN(Enum, name, gguf_id, bytes) {DType::k##Enum, #name, gguf_id, 1, bytes, false, nullptr, nullptr},
#include "tensor/dtypes.def"
};
static_assert(std::size(kTraits) == kNumDTypes);

char lower(char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

}  // namespace

const DTypeTraits& traits(DType t) {
  const auto i = static_cast<size_t>(t);
  MOE_CHECK(i < std::size(kTraits));
  return kTraits[i];
}

std::span<const DTypeTraits> all_dtypes() { return kTraits; }

Result<DType> dtype_from_gguf(uint32_t gguf_id) {
  for (const DTypeTraits& t : kTraits) {
    if (t.gguf_id == gguf_id && gguf_id != kNoGgufId) return t.dtype;
  }
  return Status::Unsupported("GGUF tensor type " + std::to_string(gguf_id) + " is not one this build can read");
}

Result<DType> parse_dtype(std::string_view name) {
  std::string valid;
  for (const DTypeTraits& t : kTraits) {
    if (t.gguf_id == kNoGgufId) continue;
    if (equal_ignoring_case(name, t.name)) return t.dtype;
    valid += (valid.empty() ? "" : ", ") + std::string(t.name);
  }
  return Status::InvalidArgument("unknown storage format '" + std::string(name) + "', wanted one of " + valid);
}

size_t dtype_bytes(DType t, int64_t n) {
  const DTypeTraits& info = traits(t);
  MOE_CHECK(n >= 0 && n % info.block_elements == 0);
  return static_cast<size_t>(n / info.block_elements) * info.block_bytes;
}

}  // namespace moe

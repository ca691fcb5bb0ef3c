// What reader, writer and metadata share about the GGUF format: numbers, limits, and the checks that each field must pass.
// The format is described in README.md beside this file; its origin is
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/status.h"

namespace moe {

inline constexpr std::string_view kGgufMagic = "GGUF";
inline constexpr uint32_t kGgufVersion = 3;  // written; 2 is read too: its little-endian bytes are laid out alike
inline constexpr uint32_t kGgufDefaultAlignment = 32;

// Limits. Real files stay far below; beyond them a file is broken or hostile.
inline constexpr uint64_t kGgufMaxRecords = uint64_t{1} << 20;  // keys, and tensors
inline constexpr size_t kGgufMaxNameBytes = 65535;              // of a key, as the format says, and of a tensor we read
inline constexpr size_t kGgufMaxWrittenNameBytes = 63;          // of a tensor we write: ggml reads no longer ones
inline constexpr int kGgufMaxArrayDepth = 4;                    // arrays in arrays
inline constexpr uint32_t kGgufMinAlignment = 8;
inline constexpr uint32_t kGgufMaxAlignment = uint32_t{1} << 20;
inline constexpr size_t kGgufMaxDims = 4;

// The type of a metadata value, as the file numbers it.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};
inline constexpr uint32_t kNumGgufTypes = 13;

const char* gguf_type_name(GgufType t);  // "uint8", "string", …
size_t gguf_type_bytes(GgufType t);      // of one scalar; 0 for strings and arrays, whose size varies

// One read step. The message says "byte 24: wanted 8 bytes of <what>, found 3".
template <class T>
Status read_field(ByteReader& r, const char* what, T& out) {
  const size_t at = r.position(), left = r.remaining();
  if (r.read(out)) return Status::Ok();
  return Status::Corrupt("byte " + std::to_string(at) + ": wanted " + std::to_string(sizeof(T)) + " bytes of " + what +
                         ", found " + std::to_string(left));
}

// A string is its length (u64) and that many bytes; `out` views the reader's bytes.
Status read_gguf_string(ByteReader& r, const char* what, std::string_view& out);
void write_gguf_string(ByteWriter& w, std::string_view s);
Status read_gguf_type(ByteReader& r, const char* what, GgufType& out);  // what: "a value type"

// Keys and tensor names: 1 to max_bytes bytes of UTF-8 without NUL.
Status check_gguf_name(std::string_view name, size_t max_bytes);

// A power of two within the limits above.
Status check_gguf_alignment(uint64_t alignment);

// Bytes of a tensor of this shape (outermost first) in blocks along its last dimension. An error unless there are 1 to 4
// positive dimensions, the rows are whole blocks and the product fits 63 bits.
Result<uint64_t> gguf_tensor_bytes(std::span<const int64_t> shape, int64_t block_elements, int64_t block_bytes);

bool valid_utf8(std::string_view s);

// One line of text for messages and listings: control characters and broken UTF-8 become \n, \x1b and the like, and what is
// longer than `width` characters ends in "…".
std::string printable(std::string_view s, size_t width = 64);
// The first `width` characters of text that needs no escapes; "…" is the last of them where more followed.
std::string cut_line(std::string text, size_t width);

std::string shape_text(std::span<const int64_t> shape);  // "(8, 64, 32)"

// A tensor type that ggml has and dtypes.def has not: enough to list such a tensor and to check where it lies.
struct ForeignTensorType {
  uint32_t gguf_id;
  const char* name;
  int block_elements;
  int block_bytes;
};
const ForeignTensorType* find_foreign_type(uint32_t gguf_id);  // null: nobody knows it

}  // namespace moe

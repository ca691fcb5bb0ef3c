// Metadata: the ordered key → typed value table of a GGUF file, e.g. llama.expert_count = uint32 8.
//
// Each value is kept in the bytes the file has for it and decoded when asked for. So loading a vocabulary of 200,000 strings is
// one walk that checks lengths and one copy into one buffer, writing is a copy back, and what we read and write again is
// unchanged. The bytes are copied rather than viewed in the mapping: they are a few MB beside GBs of weights, and it makes
// Metadata a plain value that outlives the file, can be copied and edited, and needs no shared ownership. Rejected: a variant
// of vectors (a heap block a string), string_views into the mapping (lifetime, and edits need a second form).
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/bytes.h"
#include "core/status.h"
#include "models/io/gguf_format.h"

namespace moe {

template <class T, class... Ts>
concept OneOf = (std::same_as<T, Ts> || ...);

template <class T>
concept MetadataValue = OneOf<T, bool, int8_t, uint8_t, int16_t, uint16_t, int32_t, uint32_t, int64_t, uint64_t, float, double,
                              std::string, std::string_view>;

struct MetadataEntry {
  std::string key;
  GgufType type = GgufType::kUint32;
  GgufType element_type = GgufType::kUint32;  // of the elements where type is kArray
  uint64_t count = 0;                         // of elements where type is kArray
  std::string
      body;  // as in the file: a scalar's or the elements' little-endian bytes; a string's characters; for arrays of
             // strings each element's length (u64) and characters; for arrays of arrays each one's type, count, elements
};

// A value type. Reading one object from several threads is safe.
class Metadata {
 public:
  Metadata() = default;
  // `source` opens every message, e.g. the path of the file.
  explicit Metadata(std::string source) : source_(std::move(source)) {}

  bool has(std::string_view key) const { return find(key) != nullptr; }

  // Integers convert between widths and signs where the value fits, and to float and double; double to float where it is in
  // range; float never to integer; bool and string only to themselves. kNotFound when absent, kCorrupt when it is not a T.
  // get<std::string_view> views this object's memory: valid until it is changed or destroyed.
  template <MetadataValue T>
  Result<T> get(std::string_view key) const;
  // `fallback` only when absent: a present value of the wrong type is an error.
  template <MetadataValue T>
  Result<T> get_or(std::string_view key, std::type_identity_t<T> fallback) const {
    if (!has(key)) return fallback;
    return get<T>(key);
  }

  // All elements, each converted as by get. An error for scalars and for arrays of arrays.
  template <MetadataValue T>
  Result<std::vector<T>> get_array(std::string_view key) const;
  // n elements: an array of exactly n, or a scalar n times. For values a file may give once or per layer.
  template <MetadataValue T>
  Result<std::vector<T>> get_array_or_broadcast(std::string_view key, size_t n) const;

  // Replaces the value, in its place, or adds the key at the end. Keys are checked when written.
  template <MetadataValue T>
  void set(std::string_view key, T value);
  template <MetadataValue T>
  void set(std::string_view key, const std::vector<T>& values);
  void set(std::string_view key, const char* value) { set(key, std::string_view(value)); }
  // Puts an entry of another Metadata here, whatever its type.
  void set_entry(MetadataEntry entry);
  bool remove(std::string_view key);  // false when absent

  std::span<const MetadataEntry> entries() const { return entries_; }  // in file order
  const MetadataEntry* find(std::string_view key) const;               // null when absent; valid until a change

  const std::string& source() const { return source_; }
  void set_source(std::string source) { source_ = std::move(source); }

  // The key-value section of a GGUF file: n records at the reader's position. Checks everything that README.md says of it.
  static Result<Metadata> decode(ByteReader& reader, uint64_t n, std::string source);
  void encode(ByteWriter& writer) const;

 private:
  std::string mismatch(std::string_view key, const std::string& wanted, const std::string& found) const;
  Result<const MetadataEntry*> require(std::string_view key, const std::string& wanted) const;

  std::string source_;
  std::vector<MetadataEntry> entries_;
  std::map<std::string, size_t, std::less<>> index_;  // key → position; a tree, so that no file can make it slow
};

// For listings: "uint32", "array of 50257 string".
std::string value_type_text(const MetadataEntry& entry);
// The value on one line of at most `width` characters, cut with "…": 3, 1e-05, true, text, ["a", "b", "…
std::string value_text(const MetadataEntry& entry, size_t width);

}  // namespace moe

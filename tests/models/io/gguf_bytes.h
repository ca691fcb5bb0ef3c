// Builds GGUF files byte by byte, right and wrong ones, without the code under test.
#pragma once

#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "core/status.h"

namespace moe::test {

inline std::string le(auto n) {
  std::string s(sizeof n, '\0');
  std::memcpy(s.data(), &n, sizeof n);
  return s;
}
inline std::string u32(uint32_t n) { return le(n); }
inline std::string u64(uint64_t n) { return le(n); }
inline std::string text(std::string_view s) { return u64(s.size()) + std::string(s); }

// Value types as the format numbers them.
enum : uint32_t { kU8 = 0, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

inline std::string pair(std::string_view key, uint32_t type, const std::string& value) { return text(key) + u32(type) + value; }
inline std::string array(uint32_t type, uint64_t count, const std::string& elements) {
  return u32(type) + u64(count) + elements;
}

// dims innermost first, as in the file; type is ggml's number.
inline std::string tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
  std::string s = text(name) + u32(static_cast<uint32_t>(dims.size()));
  for (uint64_t d : dims) s += u64(d);
  return s + u32(type) + u64(offset);
}

// A file of these pieces. Counts follow from the pieces unless set.
struct GgufBytes {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::vector<std::string> pairs, tensors;
  std::optional<uint64_t> n_pairs, n_tensors;
  size_t alignment = 32;
  std::string data;

  std::string header() const {
    std::string s = magic + u32(version) + u64(n_tensors.value_or(tensors.size())) + u64(n_pairs.value_or(pairs.size()));
    for (const std::string& p : pairs) s += p;
    for (const std::string& t : tensors) s += t;
    return s;
  }
  std::string bytes() const {
    std::string s = header();
    s.resize((s.size() + alignment - 1) / alignment * alignment);
    return s + data;
  }
};

// A small sound file: seven keys of all kinds, and an f32 tensor (2, 4) and a q8_0 tensor (1, 32).
inline GgufBytes sound_file() {
  GgufBytes f;
  f.pairs = {pair("general.architecture", kString, text("llama")),
             pair("n", kU32, u32(7)),
             pair("yes", kBool, le(uint8_t{1})),
             pair("list", kArray, array(kI32, 3, le(int32_t{1}) + le(int32_t{-2}) + le(int32_t{3}))),
             pair("words", kArray, array(kString, 2, text("a") + text("bc"))),
             pair("flags", kArray, array(kBool, 2, std::string("\0\1", 2))),
             pair("nested", kArray, array(kArray, 2, array(kU8, 2, "ab") + array(kString, 1, text("x"))))};
  f.tensors = {tensor("a", {4, 2}, 0, 0), tensor("b", {32}, 8, 32)};
  for (int i = 0; i < 32 + 34; ++i) f.data += static_cast<char>(i + 1);
  return f;
}

inline std::span<const std::byte> bytes_of(std::string_view s) { return std::as_bytes(std::span(s)); }

inline bool says(const Status& s, std::string_view part) { return s.message().find(part) != std::string::npos; }

}  // namespace moe::test

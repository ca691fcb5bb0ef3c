// Bounds-checked little-endian reading and writing. Every file parser of the project reads through ByteReader, so that a
// truncated or lying file can only ever produce `false`, never a read outside the bytes given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace moe {

// Not thread-safe; a cheap value over bytes that someone else owns.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  size_t position() const { return pos_; }
  size_t remaining() const { return bytes_.size() - pos_; }

  // Reads one little-endian number. False, and no movement, when fewer bytes remain.
  template <class T>
  [[nodiscard]] bool read(T& out) {
    static_assert(std::is_arithmetic_v<T>);
    if (remaining() < sizeof(T)) return false;
    std::memcpy(&out, bytes_.data() + pos_, sizeof(T));
    pos_ += sizeof(T);
    return true;
  }

  // Views the next n bytes without copying.
  [[nodiscard]] bool read_bytes(size_t n, std::span<const std::byte>& out) {
    if (remaining() < n) return false;
    out = bytes_.subspan(pos_, n);
    pos_ += n;
    return true;
  }

  [[nodiscard]] bool read_view(size_t n, std::string_view& out) {
    std::span<const std::byte> b;
    if (!read_bytes(n, b)) return false;
    out = {reinterpret_cast<const char*>(b.data()), b.size()};
    return true;
  }

  [[nodiscard]] bool skip(size_t n) {
    if (remaining() < n) return false;
    pos_ += n;
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
  size_t pos_ = 0;
};

class ByteWriter {
 public:
  template <class T>
  void write(T v) {
    static_assert(std::is_arithmetic_v<T>);
    write_bytes(&v, sizeof v);
  }
  void write_bytes(const void* p, size_t n) {
    const auto* b = static_cast<const std::byte*>(p);
    bytes_.insert(bytes_.end(), b, b + n);
  }
  void pad_to(size_t alignment) { bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment); }

  size_t size() const { return bytes_.size(); }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace moe

// The content hash of README.md, tensor by tensor: of files that are read, and of files that are yet to be written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace moe {

class ContentHash {
 public:
  static constexpr size_t kEnd = 4096;  // bytes that count at the start and at the end of each tensor

  // Tensors in the order of their names' bytes. `head` is all of the `bytes`, or the first kEnd; `tail` what is left behind
  // these, or the last kEnd of it.
  void add(std::string_view name, uint32_t gguf_type, std::span<const int64_t> shape, uint64_t bytes,
           std::span<const std::byte> head, std::span<const std::byte> tail) {
    number(name.size());
    block(std::as_bytes(std::span(name)));
    number(gguf_type);
    number(shape.size());
    for (const int64_t d : shape) number(static_cast<uint64_t>(d));
    number(bytes);
    block(head), block(tail);
  }

  uint64_t value() const { return hash_; }

 private:
  // FNV-1a with 64 bits, http://www.isthe.com/chongo/tech/comp/fnv/: simple enough to write again in any language.
  void byte(uint64_t b) { hash_ = (hash_ ^ b) * 0x100000001b3u; }
  void block(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) byte(std::to_integer<uint64_t>(b));
  }
  void number(uint64_t n) {
    for (int shift = 0; shift < 64; shift += 8) byte((n >> shift) & 0xff);
  }

  uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace moe

// Any bytes as a GGUF file: nothing may crash, hang or leak, and what was accepted must be readable and survive a rewrite.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "models/io/gguf.h"

using namespace moe;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

template <class T>
void read_as(const Metadata& m, const std::string& key) {
  static_cast<void>(m.get<T>(key));
  static_cast<void>(m.get_array<T>(key));
  static_cast<void>(m.get_array_or_broadcast<T>(key, 3));
}

void use_metadata(const Metadata& m) {
  for (const MetadataEntry& e : m.entries()) {
    require(m.find(e.key) == &e);
    require(!value_type_text(e).empty());
    require(value_text(e, 20).size() <= 80);
    read_as<bool>(m, e.key);
    read_as<int32_t>(m, e.key);
    read_as<uint64_t>(m, e.key);
    read_as<float>(m, e.key);
    read_as<std::string_view>(m, e.key);
  }
  ByteWriter first, second;
  m.encode(first);
  ByteReader r(first.bytes());
  const auto again = Metadata::decode(r, m.entries().size(), "again");
  require(again.ok() && r.remaining() == 0);
  again->encode(second);
  require(first.size() == second.size());
  require(first.size() == 0 || std::memcmp(first.bytes().data(), second.bytes().data(), first.size()) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto file = GgufFile::parse(bytes, "fuzz");
  if (!file.ok()) {
    require(file.status().message().starts_with("fuzz: "));
    require(file.status().message().find('\n') == std::string::npos);
    return 0;
  }
  use_metadata(file->metadata());
  uint64_t total = 0;
  for (const TensorInfo& t : file->tensors()) {
    require(file->find(t.name) == &t);
    require(t.data.data() >= bytes.data() && t.data.data() + t.data.size() <= bytes.data() + bytes.size());
    total += t.data.size();
  }
  require(total <= size);  // tensors do not overlap
  static_cast<void>(file->content_hash());
  return 0;
}

// Token files in memory and on disk for tests.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "models/train/token_file.h"
#include "tests/temp_folder.h"

namespace moe::test {

using Documents = std::vector<std::vector<Token>>;

inline std::string write_token_file(const TempFolder& folder, const std::string& name, const Documents& documents,
                                    int n_vocab = 1000, uint64_t vocabulary = 7) {
  std::string path = folder / name;
  TokenFileWriter writer = TokenFileWriter::create(path, vocabulary, n_vocab).value();
  for (const auto& d : documents) REQUIRE(writer.add_document(d).ok());
  REQUIRE(writer.commit().ok());
  return path;
}

inline std::vector<std::byte> bytes_of(const std::string& path) {
  const MappedFile file = MappedFile::open(path).value();
  return {file.bytes().begin(), file.bytes().end()};
}

// Sets a field of the header and mends the checksum.
template <class T>
void set_field(std::vector<std::byte>& file, size_t offset, T value) {
  std::memcpy(file.data() + offset, &value, sizeof value);
  uint64_t h = 0xCBF29CE484222325u;
  for (size_t i = 0; i < 56; ++i) h = (h ^ static_cast<uint8_t>(file[i])) * 0x100000001B3u;
  std::memcpy(file.data() + 56, &h, sizeof h);
}

}  // namespace moe::test

// The vocabularies of published models against the ids expected for them; skipped where they are absent.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "models/io/gguf.h"
#include "tests/models/tokenizer/small_vocabulary.h"

namespace moe {
namespace {

std::string read(const std::filesystem::path& path) {
  std::stringstream stream;
  stream << std::ifstream(path, std::ios::binary).rdbuf();
  return stream.str();
}

std::filesystem::path vocabulary_folder() {
  const char* shared = std::getenv("MOE_SHARED");
  return std::filesystem::path(shared == nullptr ? "../shared" : shared) / "vocab";
}

std::vector<std::filesystem::path> files_ending(std::string_view end) {
  std::vector<std::filesystem::path> found;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(vocabulary_folder(), none)) {
    if (entry.path().string().ends_with(end)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

Tokenizer load(const std::string& path) {
  const Result<GgufFile> file = GgufFile::open(path);
  REQUIRE_MESSAGE(file.ok(), file.status().message());
  Result<TokenizerData> data = TokenizerData::from_metadata(file->metadata());
  REQUIRE_MESSAGE(data.ok(), data.status().message());
  return test::make(std::move(data).value());
}

std::vector<std::string> inputs(const std::string& text) {
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> out;
  size_t begin = 0;
  for (size_t end; (end = text.find(kSeparator, begin)) != std::string::npos; begin = end + kSeparator.size()) {
    out.push_back(text.substr(begin, end - begin));
  }
  return out;
}

}  // namespace

TEST_CASE("vocabulary files: every string has the expected ids and comes back from them") {
  const auto files = files_ending(".gguf.inp");
  if (files.empty()) MESSAGE("skipped: no vocabularies in " << vocabulary_folder().string());
  for (const auto& input : files) {
    const std::string path = input.string().substr(0, input.string().size() - 4);
    const Tokenizer tokenizer = load(path);
    std::stringstream expected(read(path + ".out"));
    for (const std::string& text : inputs(read(input))) {
      std::string line;
      REQUIRE(std::getline(expected, line));
      const auto tokens = tokenizer.encode(text, {false, false});
      REQUIRE(tokens.ok());
      CHECK_MESSAGE(*tokens == test::ids(line), path << ": " << text);
      CHECK(tokenizer.decode(*tokens) == text);
    }
  }
}

TEST_CASE("vocabulary files: they load, know their end token and the length of their longest piece") {
  for (const auto& path : files_ending(".gguf")) {
    const Tokenizer tokenizer = load(path.string());
    size_t longest = 0;
    for (Token t = 0; t < tokenizer.n_vocab(); ++t) longest = std::max(longest, tokenizer.piece(t, true).size());
    CHECK(longest == tokenizer.longest_piece());
    CHECK(tokenizer.eos() != kNoToken);
    CHECK(tokenizer.is_end_of_generation(tokenizer.eos()));
  }
}

}  // namespace moe

#include "models/tokenizer/pretokenizer.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/models/tokenizer/small_vocabulary.h"

namespace moe {
namespace {

// "a|b\|" -> {"a", "b|"}
std::vector<std::string> expected_pieces(const std::string& field) {
  std::vector<std::string> out = {""};
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '|') {
      out.emplace_back();
    } else if (field[i] == '\\') {
      out.back() += test::unescape(field.substr(i++, 2) == "\\|" ? "|" : field.substr(i - 1, 2));
    } else {
      out.back() += field[i];
    }
  }
  return out;
}

}  // namespace

TEST_CASE("pretokenizer: every name splits as its regular expressions do in Python") {
  for (const std::string& line : test::data_lines("splits.txt")) {
    const size_t tab = line.find('\t');
    const std::string name = line.substr(0, tab);
    const std::vector<std::string> want = expected_pieces(line.substr(tab + 1));
    std::string text;
    for (const std::string& piece : want) text += piece;
    const Result<Pretokenizer> pretokenizer = Pretokenizer::create(name);
    REQUIRE_MESSAGE(pretokenizer.ok(), pretokenizer.status().message());
    std::vector<std::string> got;
    size_t begin = 0;
    for (const size_t end : pretokenizer->split(text)) {
      got.push_back(text.substr(begin, end - begin));
      begin = end;
    }
    CHECK_MESSAGE(got == want, line);
  }
}

TEST_CASE("pretokenizer: an unknown name is refused with the known ones") {
  const Result<Pretokenizer> pretokenizer = Pretokenizer::create("no-such");
  REQUIRE_FALSE(pretokenizer.ok());
  const std::string message = pretokenizer.status().message();
  for (const char* part : {"tokenizer.ggml.pre", "no-such", "gpt-4o", "deepseek-llm", "falcon"}) {
    CHECK_MESSAGE(message.find(part) != std::string::npos, part);
  }
}

TEST_CASE("pretokenizer: all patterns of all names compile") {
  for (const char* name : {"", "default", "gpt-2", "olmo", "mpt", "llama-bpe", "llama3", "dbrx", "qwen2", "gpt-4o", "tekken",
                           "deepseek-llm", "deepseek-coder", "deepseek-v3", "starcoder", "refact", "falcon"}) {
    const Result<Pretokenizer> pretokenizer = Pretokenizer::create(name);
    CHECK_MESSAGE(pretokenizer.ok(), pretokenizer.status().message());
    CHECK(pretokenizer_patterns(name).size() >= 1);
  }
  CHECK(pretokenizer_traits("llama-bpe").ignore_merges);
  CHECK(pretokenizer_traits("llama-bpe").add_bos);
  CHECK_FALSE(pretokenizer_traits("gpt-2").add_bos);
}

TEST_CASE("pretokenizer: nothing of a text is lost, whatever its bytes") {
  const Result<Pretokenizer> pretokenizer = Pretokenizer::create("gpt-4o");
  REQUIRE(pretokenizer.ok());
  std::string text;
  for (int i = 0; i < 70000; ++i) text += static_cast<char>(i * 7 + i / 251);
  const std::vector<size_t> ends = pretokenizer->split(text);
  REQUIRE_FALSE(ends.empty());
  CHECK(ends.back() == text.size());
  CHECK(std::is_sorted(ends.begin(), ends.end(), std::less_equal<>()));
  CHECK(pretokenizer->split("").empty());
}

}  // namespace moe

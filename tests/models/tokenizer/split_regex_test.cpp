#include "models/tokenizer/split_regex.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace moe {
namespace {

std::vector<std::string> pieces(std::string_view pattern, const std::string& text) {
  const Result<SplitRegex> regex = SplitRegex::compile(pattern);
  REQUIRE_MESSAGE(regex.ok(), regex.status().message());
  std::vector<size_t> ends = {text.size()};
  regex->split(text, ends);
  std::vector<std::string> out;
  size_t begin = 0;
  for (const size_t end : ends) {
    out.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return out;
}

using Pieces = std::vector<std::string>;

}  // namespace

TEST_CASE("split regex: the first alternative wins even where a later one is longer") {
  CHECK(pieces("a|ab", "abab") == Pieces{"a", "b", "a", "b"});
  CHECK(pieces("ab|a", "abaab") == Pieces{"ab", "a", "ab"});
  CHECK(pieces("(?:a|ab)(?:c|bcd)", "abcdabc") == Pieces{"abcd", "abc"});
}

TEST_CASE("split regex: repetitions are greedy and give back what the rest needs") {
  CHECK(pieces("a*ab", "xaaabaab") == Pieces{"x", "aaab", "aab"});
  CHECK(pieces("a{2,3}", "aaaaaaab") == Pieces{"aaa", "aaa", "ab"});
  CHECK(pieces("a{2}", "aaaaa") == Pieces{"aa", "aa", "a"});
  CHECK(pieces("(ab?)+c?", "aabacab") == Pieces{"aabac", "ab"});
}

TEST_CASE("split regex: look-ahead sees one character and the end") {
  CHECK(pieces(R"(\s+(?!\S))", "a   b  ") == Pieces{"a", "  ", " b", "  "});
  CHECK(pieces("a(?=b)", "abac") == Pieces{"a",
                                           "b"
                                           "ac"});
  CHECK(pieces(R"(\s+$)", "  a  ") == Pieces{"  a", "  "});
}

TEST_CASE("split regex: look-ahead stops at the end of a chunk") {
  const Result<SplitRegex> regex = SplitRegex::compile(R"(\s+(?!\S))");
  REQUIRE(regex.ok());
  std::vector<size_t> ends = {3, 4};
  regex->split("a  b", ends);
  CHECK(ends == std::vector<size_t>{1, 3, 4});
}

TEST_CASE("split regex: sets know categories, ranges, negation and escapes") {
  CHECK(pieces(R"([^\r\n\p{L}]+)", "ab12\n!é") == Pieces{"ab", "12", "\n", "!", "é"});
  CHECK(pieces(R"([\]\-a]+)", "x]-a-x") == Pieces{"x", "]-a-", "x"});
  CHECK(pieces("[a-c-]+", "d-a-cd") == Pieces{"d", "-a-c", "d"});
  CHECK(pieces("[一-龥]+", "abc世界！") == Pieces{"abc", "世界", "！"});
  CHECK(pieces(R"(\p{Lu}\p{Ll}+)", "ÀéÉ") == Pieces{"Àé", "É"});
}

TEST_CASE("split regex: bytes that are not UTF-8 are one symbol each and never lost") {
  CHECK(pieces(R"(\p{S}+)", "a\xFF\xE2\x96z") == Pieces{"a", "\xFF\xE2\x96", "z"});
}

TEST_CASE("split regex: bad patterns are refused with the place") {
  for (const char* pattern :
       {"(a", "a)", "[a", "a{3,2}", "a{1000}", "*a", "\\p{Xx}", "[z-a]", "(?=ab)", "a**b(", "\xFF", "\\"}) {
    const Result<SplitRegex> regex = SplitRegex::compile(pattern);
    CHECK_FALSE(regex.ok());
    CHECK(regex.status().message().find("offset") != std::string::npos);
  }
}

// Quadratic behaviour would need 10^12 steps here.
TEST_CASE("split regex: a megabyte of blanks that no match ends is scanned once") {
  std::string text(1 << 20, ' ');
  text += 'x';
  CHECK(pieces(R"(\s+$)", text).size() == 1);
  CHECK(pieces(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", text).size() == 3);
}

}  // namespace moe

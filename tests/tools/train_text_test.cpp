#include "tools/train_text.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <vector>

using namespace moe;
using namespace moe::tools;

namespace {

// Gives the text in steps of `step` bytes.
class Steps final : public ByteSource {
 public:
  Steps(std::string text, size_t step) : text_(std::move(text)), step_(step) {}
  Result<size_t> read(char* out, size_t n) override {
    n = std::min({n, step_, text_.size() - at_});
    std::memcpy(out, text_.data() + at_, n);
    at_ += n;
    return n;
  }
  uint64_t consumed() const override { return at_; }
  Result<std::string_view> peek(size_t n) override { return std::string_view(text_).substr(at_, n); }

 private:
  std::string text_;
  size_t step_, at_ = 0;
};

using Texts = std::vector<std::string>;

// The documents; the same for steps of all sizes.
Texts documents(const std::string& text, const TextFormat& format, TextCounts* counts = nullptr) {
  Texts whole;
  for (const size_t step : {size_t{1} << 20, size_t{1}, size_t{3}, size_t{7}}) {
    Steps source(text, step);
    Texts found;
    TextCounts sums;
    const auto add = [&](std::string_view d) { return found.emplace_back(d), Status::Ok(); };
    REQUIRE(read_documents(source, "x", format, add, sums).ok());
    CHECK(sums.documents == found.size());
    if (whole.empty()) whole = found;
    if (format.most_bytes > text.size()) CHECK(found == whole);
    if (counts) *counts = sums;
  }
  return whole;
}

Status error_of(const std::string& text, const TextFormat& format) {
  Steps source(text, 1000);
  TextCounts counts;
  return read_documents(
      source, "x", format, [](std::string_view) { return Status::Ok(); }, counts);
}

}  // namespace

TEST_CASE("a file as one document keeps every byte") {
  CHECK(documents("a\n\n<|endoftext|>\n\xFF\r\n", {.kind = TextKind::kWhole}) == Texts{"a\n\n<|endoftext|>\n\xFF\r\n"});
  CHECK(documents("", {.kind = TextKind::kWhole}).empty());
}

TEST_CASE("a separator is a line of its own and no text") {
  const TextFormat f;
  CHECK(documents("a\nb\n<|endoftext|>\nc", f) == Texts{"a\nb", "c"});
  CHECK(documents("a\n<|endoftext|>\n<|endoftext|>\r\nc\n", f) == Texts{"a", "c\n"});
  CHECK(documents("<|endoftext|>\na\n<|endoftext|>", f) == Texts{"a"});
  CHECK(documents("a <|endoftext|>\nb", f) == Texts{"a <|endoftext|>\nb"});
  CHECK(documents("a\n---\nb", {.separator = "---"}) == Texts{"a", "b"});
}

TEST_CASE("blank lines divide, however many") {
  CHECK(documents("\n\na\nb\n\n \t\r\n\nc\n", {.kind = TextKind::kBlankLines}) == Texts{"a\nb", "c\n"});
}

TEST_CASE("JSON objects become text by the layout") {
  const TextFormat f = {.kind = TextKind::kJsonl, .layout = "Q: {q}\nA: {a}{{}}"};
  CHECK(documents("{\"q\": \"1+1?\", \"a\": 2}\n\n{\"a\": null, \"q\": \"ü\\n\"}", f) ==
        Texts{"Q: 1+1?\nA: 2{}", "Q: ü\n\nA: {}"});
  CHECK(apply_layout("{x?}{y?}", R"({"y": "b"})").value() == "b");
  CHECK(apply_layout("{x}", R"({"x": [1, "a"]})").value() == R"([1,"a"])");
}

TEST_CASE("broken JSON lines are named with what they lack") {
  const TextFormat f = {.kind = TextKind::kJsonl, .layout = "{q}"};
  CHECK(error_of("{\"q\": \"\"}\n{\"q\"", f).message() == "x: line 2: wanted a JSON object");
  CHECK(error_of("[1]", f).message() == "x: line 1: wanted a JSON object");
  CHECK(error_of("{\"a\": 1, \"b\": 2}", f).message() == "x: line 1: wanted the field 'q', found: a, b");
  CHECK(error_of("{}", {.kind = TextKind::kJsonl, .layout = "{q"}).message() == "x: line 1: layout '{q': a { is not closed");
  const TextFormat tight = {.kind = TextKind::kJsonl, .layout = "{q}", .most_bytes = 20};
  CHECK(error_of("{\"q\": \"0123456789012345678901234567890123456789\"}", tight).code() == StatusCode::kOutOfRange);
}

TEST_CASE("long documents are cut at line ends, else before a character, and nothing is lost") {
  TextCounts counts;
  std::string lines, line;
  for (int i = 0; i < 100; ++i) lines += "line " + std::to_string(i) + "\n", line += "ü";
  const auto join = [](const Texts& texts) {
    std::string all;
    for (const std::string& t : texts) all += t;
    return all;
  };
  const TextFormat f = {.kind = TextKind::kWhole, .most_bytes = 50};
  for (const size_t step : {size_t{1}, size_t{13}, size_t{60}}) {
    for (const std::string& text : {lines, line}) {
      Steps source(text, step);
      Texts found;
      TextCounts sums;
      const auto add = [&](std::string_view d) { return found.emplace_back(d), Status::Ok(); };
      REQUIRE(read_documents(source, "x", f, add, sums).ok());
      CHECK(join(found) == text);
      CHECK(sums.cuts > 1);
      CHECK(sums.bytes == text.size());
      for (const std::string& d : found) CHECK(replace_invalid_utf8(d) == d);
      for (size_t i = 0; text == lines && i < found.size(); ++i) CHECK(found[i].ends_with('\n'));
    }
  }
}

TEST_CASE("what is not UTF-8 is kept, or replaced on demand") {
  CHECK(documents("a\xFFz\xE4\xB8", {}) == Texts{"a\xFFz\xE4\xB8"});
  CHECK(documents("a\xFFz\xE4\xB8", {.replace_invalid = true}) == Texts{"a\uFFFDz\uFFFD"});
}

TEST_CASE("escapes of a layout are those of JSON") { CHECK(unescape(R"(a\nb\t\\n\x\)") == "a\nb\t\\n\\x\\"); }

TEST_CASE("an error of the receiver ends the reading") {
  Steps source("a\n<|endoftext|>\nb", 4);
  TextCounts counts;
  CHECK(read_documents(
            source, "x", {}, [](std::string_view) { return Status::Cancelled("stop"); }, counts)
            .message() == "stop");
  CHECK(counts.documents == 1);
}

TEST_CASE("a file is read to its end, and one that is not there is named") {
  CHECK(open_source("no/such/file").status().code() == StatusCode::kNotFound);
  auto source = open_source("LICENSE").value();
  const std::string head(source->peek(5).value());
  std::string text(5, ' ');
  for (size_t at = 0; at < 5;) at += source->read(text.data() + at, 5 - at).value();
  CHECK(text == head);
  CHECK(source->consumed() >= 5);
  CHECK_FALSE(open_source(".").value()->peek(1).ok());
}

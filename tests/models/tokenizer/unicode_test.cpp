#include "models/tokenizer/unicode.h"

#include <doctest/doctest.h>

#include <initializer_list>

namespace moe {

TEST_CASE("unicode: every code point survives encoding and decoding, surrogates excepted") {
  size_t wrong = 0;
  for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
    std::string text;
    append_utf8(c, text);
    const DecodedChar d = decode_utf8(text);
    const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
    wrong += surrogate ? d.state != Utf8::kInvalid : d.state != Utf8::kValid || d.code_point != c || d.length != text.size();
  }
  CHECK(wrong == 0);
}

TEST_CASE("unicode: broken sequences are told by their maximal part") {
  struct Case {
    std::string_view bytes;
    Utf8 state;
    uint32_t length;
  };
  const std::initializer_list<Case> cases = {
      {"\x80", Utf8::kInvalid, 1},              // continuation alone
      {"\xC0\xAF", Utf8::kInvalid, 1},          // overlong
      {"\xE0\x80\x80", Utf8::kInvalid, 1},      // overlong
      {"\xED\xA0\x80", Utf8::kInvalid, 1},      // surrogate
      {"\xF4\x90\x80\x80", Utf8::kInvalid, 1},  // above U+10FFFF
      {"\xF5", Utf8::kInvalid, 1},              // no such lead
      {"\xE2\x96", Utf8::kTruncated, 2},        // may go on
      {"\xE2\x96x", Utf8::kInvalid, 2},         // did not go on
      {"\xF0\x9F\x98", Utf8::kTruncated, 3},    //
      {"\xF0\x9F\x98\xE2\x96\x81", Utf8::kInvalid, 3},
  };
  for (const Case& c : cases) {
    const DecodedChar d = decode_utf8(c.bytes);
    CHECK(d.state == c.state);
    CHECK(d.length == c.length);
    CHECK(d.code_point == kReplacementCharacter);
  }
}

TEST_CASE("unicode: categories are those of the standard") {
  CHECK(category_of('a') == Category::Ll);
  CHECK(category_of('_') == Category::Pc);
  CHECK(category_of('$') == Category::Sc);
  CHECK(category_of('\n') == Category::Cc);
  CHECK(category_of(0x2167) == Category::Nl);   // Ⅷ
  CHECK(category_of(0x01C5) == Category::Lt);   // ǅ
  CHECK(category_of(0x0301) == Category::Mn);   // combining acute
  CHECK(category_of(0x17B6) == Category::Mc);   // Khmer vowel
  CHECK(category_of(0x1F680) == Category::So);  // rocket
  CHECK(category_of(0x31350) == Category::Lo);  // CJK extension H, Unicode 15
  CHECK(category_of(0x10FFFD) == Category::Co);
  CHECK(category_of(0x10FFFF) == Category::Cn);
  CHECK(category_mask("L") ==
        (category_mask("Lu") | category_mask("Ll") | category_mask("Lt") | category_mask("Lm") | category_mask("Lo")));
  CHECK(category_mask("Xx") == 0);
  CHECK(category_mask("") == 0);
}

TEST_CASE("unicode: 25 characters are white space") {
  int count = 0;
  for (uint32_t c = 0; c <= kMaxCodePoint; ++c) count += is_whitespace(c);
  CHECK(count == 25);
}

}  // namespace moe

// UTF-8 and the Unicode properties that pre-tokenisers ask for. Text from users and pieces from model files may hold any
// bytes, so decoding never fails: a byte that starts no valid sequence comes back alone, marked invalid.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace moe {

inline constexpr uint32_t kReplacementCharacter = 0xFFFD;
inline constexpr uint32_t kMaxCodePoint = 0x10FFFF;

// General categories, in the order of unicode_tables.inc.
enum class Category : uint8_t {
  Lu,
  Ll,
  Lt,
  Lm,
  Lo,
  Mn,
  Mc,
  Me,
  Nd,
  Nl,
  No,
  Pc,
  Pd,
  Ps,
  Pe,
  Pi,
  Pf,
  Po,
  Sm,
  Sc,
  Sk,
  So,
  Zs,
  Zl,
  Zp,
  Cc,
  Cf,
  Cs,
  Co,
  Cn,
};

// Runs of equal category: first code point << 8 | category, ascending.
std::span<const uint32_t> category_runs();
Category category_of(uint32_t code_point);
// White_Space of the Unicode standard, which is what \s means in every pre-tokeniser.
bool is_whitespace(uint32_t code_point);

// The set of categories that a name such as "L", "Lu" or "P" stands for, one bit a category; 0 for an unknown name.
uint32_t category_mask(std::string_view name);

enum class Utf8 : uint8_t {
  kValid,      // `length` bytes are one character
  kInvalid,    // the first byte belongs to no character
  kTruncated,  // the bytes up to the end are the beginning of a character
};

struct DecodedChar {
  uint32_t code_point;  // U+FFFD unless valid
  uint32_t length;      // bytes of the character; of the maximal broken part when invalid; of the rest when truncated
  Utf8 state;
};

// Decodes the character at the start of `text`, which must not be empty. Strict: overlong forms, surrogates and numbers
// above U+10FFFF are invalid. `length` of a broken sequence follows the Unicode standard's "maximal subpart" rule
// (section 3.9, table 3-8), which decides how many U+FFFD a decoder shows.
DecodedChar decode_utf8(std::string_view text);

void append_utf8(uint32_t code_point, std::string& out);

}  // namespace moe

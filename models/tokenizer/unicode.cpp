#include "models/tokenizer/unicode.h"

#include <algorithm>
#include <array>

namespace moe {
namespace {

constexpr uint32_t kRuns[] = {
#include "models/tokenizer/unicode_tables.inc"
};

constexpr std::array<std::string_view, 30> kCategoryNames = {
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
    "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn",
};

// What may follow a lead byte (Unicode 15, table 3-7): the length of the sequence and the range of its second byte; later
// bytes are always 80..BF.
struct Lead {
  uint32_t length;  // 0: starts no character
  uint8_t second_min, second_max;
};

constexpr Lead lead_of(uint8_t b) {
  if (b < 0x80) return {1, 0, 0};
  if (b < 0xC2) return {0, 0, 0};
  if (b < 0xE0) return {2, 0x80, 0xBF};
  if (b == 0xE0) return {3, 0xA0, 0xBF};
  if (b == 0xED) return {3, 0x80, 0x9F};
  if (b < 0xF0) return {3, 0x80, 0xBF};
  if (b == 0xF0) return {4, 0x90, 0xBF};
  if (b < 0xF4) return {4, 0x80, 0xBF};
  if (b == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

std::span<const uint32_t> category_runs() { return kRuns; }

Category category_of(uint32_t code_point) {
  if (code_point > kMaxCodePoint) return Category::Cn;
  const uint32_t* after = std::upper_bound(std::begin(kRuns), std::end(kRuns), code_point << 8 | 0xFF);
  return static_cast<Category>(after[-1] & 0xFF);
}

bool is_whitespace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

uint32_t category_mask(std::string_view name) {
  uint32_t mask = 0;
  if (name.empty() || name.size() > 2) return 0;
  for (size_t i = 0; i < kCategoryNames.size(); ++i) {
    if (kCategoryNames[i].substr(0, name.size()) == name) mask |= 1u << i;
  }
  return mask;
}

DecodedChar decode_utf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const Lead lead = lead_of(byte(0));
  if (lead.length == 1) return {byte(0), 1, Utf8::kValid};
  if (lead.length == 0) return {kReplacementCharacter, 1, Utf8::kInvalid};
  uint32_t code_point = byte(0) & (0x7Fu >> lead.length);
  for (uint32_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {kReplacementCharacter, i, Utf8::kTruncated};
    const uint8_t min = i == 1 ? lead.second_min : 0x80, max = i == 1 ? lead.second_max : 0xBF;
    if (byte(i) < min || byte(i) > max) return {kReplacementCharacter, i, Utf8::kInvalid};
    code_point = code_point << 6 | (byte(i) & 0x3F);
  }
  return {code_point, lead.length, Utf8::kValid};
}

void append_utf8(uint32_t c, std::string& out) {
  const auto put = [&](uint32_t b) { out.push_back(static_cast<char>(b)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

}  // namespace moe

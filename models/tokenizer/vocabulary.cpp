#include "models/tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "models/tokenizer/special_tokens.h"
#include "models/tokenizer/unicode.h"

namespace moe {
namespace {

// GPT-2 writes printable Latin-1 bytes as themselves and numbers the other 68 from U+0100 (encoder.py, bytes_to_unicode).
constexpr bool is_printable_latin1(int b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE; }

struct LevelTable {
  std::array<uint16_t, 256> char_of{};
  std::array<int16_t, 0x144> byte_of{};  // the last byte, 0xAD, gets U+0143

  constexpr LevelTable() {
    byte_of.fill(-1);
    int extra = 0x100;
    for (int b = 0; b < 256; ++b) {
      const int c = is_printable_latin1(b) ? b : extra++;
      char_of[static_cast<size_t>(b)] = static_cast<uint16_t>(c);
      byte_of[static_cast<size_t>(c)] = static_cast<int16_t>(b);
    }
  }
};

constexpr LevelTable kLevel;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// "<0x0A>" -> 10; -1 for other texts.
int parse_byte_text(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  const int high = hex_digit(text[3]), low = hex_digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

std::string byte_text(int byte) {
  constexpr char kHex[] = "0123456789ABCDEF";
  return {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
}

void append_level_bytes(std::string_view text, std::string& out) {
  while (!text.empty()) {
    const DecodedChar c = decode_utf8(text);
    const int byte = c.state == Utf8::kValid ? byte_from_level_char(c.code_point) : -1;
    if (byte >= 0) {
      out.push_back(static_cast<char>(byte));
    } else {
      out.append(text.substr(0, c.length));  // a character that stands for no byte: shown as it is
    }
    text.remove_prefix(c.length);
  }
}

void append_unmarked(std::string_view text, std::string& out) {
  for (size_t mark; (mark = text.find(kBlankMark)) != std::string_view::npos; text.remove_prefix(mark + kBlankMark.size())) {
    out.append(text.substr(0, mark)).push_back(' ');
  }
  out.append(text);
}

// Chance never comes near it; a file written to make the hash table slow does.
constexpr int kMaxProbes = 10000;

// FNV-1a, then mixed so that the low bits depend on all.
uint64_t hash_of(std::string_view text) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : text) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h ^ h >> 29;
}

std::string quoted(std::string_view text) { return "'" + std::string(text.substr(0, 64)) + "'"; }

}  // namespace

uint32_t level_char(uint8_t byte) { return kLevel.char_of[byte]; }

int byte_from_level_char(uint32_t code_point) { return code_point < kLevel.byte_of.size() ? kLevel.byte_of[code_point] : -1; }

Result<Vocabulary> Vocabulary::create(std::vector<std::string> texts, std::span<const int32_t> types, TextForm form) {
  if (texts.empty()) return Status::Corrupt("tokenizer.ggml.tokens: wanted at least 1 token, found 0");
  if (texts.size() > static_cast<size_t>(std::numeric_limits<Token>::max() / 2)) {
    return Status::Corrupt("tokenizer.ggml.tokens: " + std::to_string(texts.size()) + " tokens are more than ids can number");
  }
  Vocabulary v;
  v.texts_ = std::move(texts);
  MOE_TRY(v.set_kinds(types));
  MOE_TRY(v.index_texts());
  v.mark_well_known();
  v.make_bytes(form);
  v.find_byte_tokens(form);
  return v;
}

Status Vocabulary::set_kinds(std::span<const int32_t> types) {
  if (!types.empty() && types.size() != texts_.size()) {
    return Status::Corrupt("tokenizer.ggml.token_type: wanted " + std::to_string(texts_.size()) +
                           " elements, one a token, found " + std::to_string(types.size()));
  }
  kinds_.assign(texts_.size(), TokenKind::kNormal);
  for (size_t i = 0; i < types.size(); ++i) {
    const bool known = types[i] >= 0 && types[i] <= static_cast<int>(TokenKind::kByte);
    kinds_[i] = known ? static_cast<TokenKind>(types[i]) : TokenKind::kUndefined;
  }
  return Status::Ok();
}

Status Vocabulary::index_texts() {
  slots_.assign(std::bit_ceil(texts_.size() * 2), kNoToken);
  for (size_t i = 0; i < texts_.size(); ++i) {
    const std::string& text = texts_[i];
    if (text.empty()) continue;  // nothing can be encoded as it
    longest_text_ = std::max(longest_text_, text.size());
    size_t slot = hash_of(text) & (slots_.size() - 1);
    for (int probes = 0; slots_[slot] != kNoToken; slot = (slot + 1) & (slots_.size() - 1)) {
      if (++probes > kMaxProbes) return Status::Corrupt("tokenizer.ggml.tokens: texts made to collide");
      const auto other = static_cast<size_t>(slots_[slot]);
      if (texts_[other] == text) {
        return Status::Corrupt("tokenizer.ggml.tokens: tokens " + std::to_string(other) + " and " + std::to_string(i) +
                               " are the same, " + quoted(text));
      }
    }
    slots_[slot] = static_cast<Token>(i);
  }
  return Status::Ok();
}

// Some converters give special tokens the type of normal ones.
void Vocabulary::mark_well_known() {
  for (const WellKnownToken& known : well_known_tokens()) {
    const Token token = find(known.text);
    if (token != kNoToken) kinds_[static_cast<size_t>(token)] = TokenKind::kControl;
  }
}

Token Vocabulary::find(std::string_view text) const {
  for (size_t slot = hash_of(text) & (slots_.size() - 1); slots_[slot] != kNoToken; slot = (slot + 1) & (slots_.size() - 1)) {
    if (texts_[static_cast<size_t>(slots_[slot])] == text) return slots_[slot];
  }
  return kNoToken;
}

std::string_view Vocabulary::bytes(Token t) const {
  const size_t begin = bytes_begin_[static_cast<size_t>(t)];
  return std::string_view(bytes_).substr(begin, bytes_begin_[static_cast<size_t>(t) + 1] - begin);
}

void Vocabulary::make_bytes(TextForm form) {
  bytes_begin_.reserve(texts_.size() + 1);
  for (size_t i = 0; i < texts_.size(); ++i) {
    bytes_begin_.push_back(bytes_.size());
    const std::string& text = texts_[i];
    const int byte = kinds_[i] == TokenKind::kByte ? parse_byte_text(text) : -1;
    if (byte >= 0) {
      bytes_.push_back(static_cast<char>(byte));
    } else if (kinds_[i] == TokenKind::kControl || kinds_[i] == TokenKind::kUnknown || kinds_[i] == TokenKind::kUserDefined) {
      bytes_.append(text);
    } else if (kinds_[i] == TokenKind::kNormal || kinds_[i] == TokenKind::kByte) {
      form == TextForm::kByteLevel ? append_level_bytes(text, bytes_) : append_unmarked(text, bytes_);
    }
    longest_bytes_ = std::max(longest_bytes_, bytes_.size() - bytes_begin_.back());
  }
  bytes_begin_.push_back(bytes_.size());
}

void Vocabulary::find_byte_tokens(TextForm form) {
  for (int b = 0; b < 256; ++b) {
    std::string text;
    if (form == TextForm::kByteLevel) {
      append_utf8(level_char(static_cast<uint8_t>(b)), text);
      byte_tokens_[static_cast<size_t>(b)] = find(text);
      continue;
    }
    const Token token = find(byte_text(b));
    byte_tokens_[static_cast<size_t>(b)] = token != kNoToken ? token : find(std::string(1, static_cast<char>(b)));
  }
}

}  // namespace moe

// The tokens of a model: their texts as the file writes them, the bytes they stand for, and the way back from a text.
//
//   byte-level BPE   text "Ġthe"    bytes " the"   every byte is written as one printable character (GPT-2's table)
//   SentencePiece    text "▁the"    bytes " the"   a blank is written as U+2581; a single byte as "<0x0A>"
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "models/tokenizer/tokenizer_data.h"

namespace moe {

// Numbers as in tokenizer.ggml.token_type.
enum class TokenKind : uint8_t {
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // <|im_end|>: never made from plain text
  kUserDefined = 4,  // always one token, whatever the merges say
  kUnused = 5,
  kByte = 6,  // <0x0A>
};

enum class TextForm : uint8_t { kByteLevel, kSentencePiece };

// U+2581, a blank in SentencePiece's texts.
inline constexpr std::string_view kBlankMark = "\xE2\x96\x81";

// The character that byte-level BPE writes for a byte: itself for printable Latin-1, else U+0100 and up (GPT-2's
// bytes_to_unicode). byte_from_level_char is the way back, -1 for other characters.
uint32_t level_char(uint8_t byte);
int byte_from_level_char(uint32_t code_point);

// Immutable and thread-safe after create().
class Vocabulary {
 public:
  // Refuses an empty vocabulary, arrays of other lengths and two tokens of one text. `types` may be empty.
  static Result<Vocabulary> create(std::vector<std::string> texts, std::span<const int32_t> types, TextForm form);

  int size() const { return static_cast<int>(texts_.size()); }
  bool contains(Token t) const { return t >= 0 && t < size(); }
  const std::string& text(Token t) const { return texts_[static_cast<size_t>(t)]; }
  TokenKind kind(Token t) const { return kinds_[static_cast<size_t>(t)]; }
  // The bytes that the token stands for: its text for control, unknown and user-defined tokens, "" for unused ones.
  std::string_view bytes(Token t) const;
  // The token of this text (not bytes), or kNoToken.
  Token find(std::string_view text) const;
  // The token for a single byte, or kNoToken.
  Token byte_token(uint8_t byte) const { return byte_tokens_[byte]; }

  size_t longest_text() const { return longest_text_; }
  size_t longest_bytes() const { return longest_bytes_; }

 private:
  Status set_kinds(std::span<const int32_t> types);
  Status index_texts();
  void mark_well_known();
  void make_bytes(TextForm form);
  void find_byte_tokens(TextForm form);

  std::vector<std::string> texts_;   // (n_vocab)
  std::vector<TokenKind> kinds_;     // (n_vocab)
  std::vector<Token> slots_;         // open-addressing hash of texts, a power of two
  std::string bytes_;                // all tokens' bytes, one after the other
  std::vector<size_t> bytes_begin_;  // (n_vocab + 1)
  std::array<Token, 256> byte_tokens_{};
  size_t longest_text_ = 0, longest_bytes_ = 0;
};

}  // namespace moe

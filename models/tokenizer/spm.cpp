#include "models/tokenizer/spm.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "models/tokenizer/unicode.h"

namespace moe {
namespace {

// A number that is smaller for larger scores. Positive floats compare as their bits do, negative ones the other way round.
uint32_t order_of(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 becomes +0: they are equal
  const uint32_t ascending = bits & 0x80000000 ? ~bits : bits | 0x80000000;
  return ~ascending;
}

// Whether a blank follows anything but blanks.
bool has_blank_inside(std::string_view text) {
  for (size_t mark = text.find(kBlankMark, 1); mark != std::string_view::npos; mark = text.find(kBlankMark, mark + 1)) {
    if (!text.substr(0, mark).ends_with(kBlankMark)) return true;
  }
  return false;
}

}  // namespace

Result<SpmEncoder> SpmEncoder::create(const Vocabulary& vocabulary, std::span<const float> scores, Token unk,
                                      bool add_space_prefix) {
  if (scores.size() != static_cast<size_t>(vocabulary.size())) {
    return Status::Corrupt("tokenizer.ggml.scores: wanted " + std::to_string(vocabulary.size()) +
                           " elements, one a token, found " + std::to_string(scores.size()));
  }
  SpmEncoder encoder(vocabulary);
  encoder.unk_ = unk;
  encoder.add_space_prefix_ = add_space_prefix;
  encoder.blanks_open_words_ = true;
  encoder.order_.reserve(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    if (std::isnan(scores[i])) return Status::Corrupt("tokenizer.ggml.scores[" + std::to_string(i) + "]: NaN");
    encoder.order_.push_back(order_of(scores[i]));
    if (has_blank_inside(vocabulary.text(static_cast<Token>(i)))) encoder.blanks_open_words_ = false;
  }
  return encoder;
}

Status SpmEncoder::encode(std::string_view text, bool opens_text, std::vector<Token>& out) const {
  const std::string marked = mark_blanks(text, opens_text);
  MergeScratch scratch;
  for (size_t begin = 0; begin < marked.size();) {
    const size_t end = word_end(marked, begin);
    MOE_TRY(encode_word(std::string_view(marked).substr(begin, end - begin), scratch, out));
    begin = end;
  }
  return Status::Ok();
}

// Merges never join two words where no token has a blank inside, so the words' heaps can stay small: 1.2 MB of English take
// a quarter of the time. Vocabularies with such tokens get the whole text as one word.
size_t SpmEncoder::word_end(std::string_view marked, size_t begin) const {
  if (!blanks_open_words_) return marked.size();
  size_t letters = begin;
  while (marked.substr(letters, kBlankMark.size()) == kBlankMark) letters += kBlankMark.size();
  return std::min(marked.find(kBlankMark, letters), marked.size());
}

Status SpmEncoder::encode_word(std::string_view word, MergeScratch& scratch, std::vector<Token>& out) const {
  scratch.symbols.clear();
  for (size_t pos = 0; pos < word.size();) {
    const DecodedChar c = decode_utf8(word.substr(pos));
    const uint32_t size = c.state == Utf8::kValid ? c.length : 1;
    scratch.add_symbol(find(word.substr(pos, size)), static_cast<uint32_t>(pos), size);
    pos += size;
  }
  merge_symbols(scratch, [&](const Symbol& left, const Symbol& right, Merge& merge) {
    const Token token = find(word.substr(left.begin, left.size + right.size));
    if (token == kNoToken) return false;
    merge = {order_[static_cast<size_t>(token)], token};
    return true;
  });
  for (int32_t i = 0; i >= 0; i = scratch.symbols[static_cast<size_t>(i)].next) {
    const Symbol& symbol = scratch.symbols[static_cast<size_t>(i)];
    if (symbol.token != kNoToken) {
      out.push_back(symbol.token);
    } else {
      MOE_TRY(append_bytes(word.substr(symbol.begin, symbol.size), out));
    }
  }
  return Status::Ok();
}

std::string SpmEncoder::mark_blanks(std::string_view text, bool opens_text) const {
  std::string marked;
  marked.reserve(text.size() + text.size() / 2);
  if (opens_text && add_space_prefix_) marked += kBlankMark;
  for (const char c : text) {
    if (c == ' ') {
      marked += kBlankMark;
    } else {
      marked += c;
    }
  }
  return marked;
}

// The token of a text, special ones left out.
Token SpmEncoder::find(std::string_view text) const {
  if (text.size() > vocabulary_->longest_text()) return kNoToken;
  const Token token = vocabulary_->find(text);
  if (token == kNoToken) return kNoToken;
  const TokenKind kind = vocabulary_->kind(token);
  const bool special = kind == TokenKind::kControl || kind == TokenKind::kUnknown || kind == TokenKind::kByte;
  return special ? kNoToken : token;
}

Status SpmEncoder::append_bytes(std::string_view bytes, std::vector<Token>& out) const {
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    const Token token = vocabulary_->byte_token(byte) != kNoToken ? vocabulary_->byte_token(byte) : unk_;
    if (token == kNoToken) {
      return Status::Unsupported("tokenizer: the vocabulary has no token for byte " + std::to_string(byte) + " of the text");
    }
    out.push_back(token);
  }
  return Status::Ok();
}

}  // namespace moe

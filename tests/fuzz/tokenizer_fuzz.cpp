// Any bytes as text, and as a vocabulary: what is encoded must decode to the same bytes, and what streams must be UTF-8.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "models/tokenizer/stream_decoder.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"
#include "models/tokenizer/vocabulary.h"

using namespace moe;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void add(TokenizerData& data, std::string text, TokenKind kind, float score = 0) {
  data.tokens.push_back(std::move(text));
  data.types.push_back(static_cast<int32_t>(kind));
  data.scores.push_back(score);
}

Tokenizer make(TokenizerData data) {
  Result<Tokenizer> tokenizer = Tokenizer::create(std::move(data));
  require(tokenizer.ok());
  return std::move(tokenizer).value();
}

TokenizerData byte_level_data(const char* pre) {
  TokenizerData data;
  data.model = "gpt2";
  data.pre = pre;
  for (int b = 0; b < 256; ++b) {
    std::string text;
    append_utf8(level_char(static_cast<uint8_t>(b)), text);
    add(data, text, TokenKind::kNormal);
  }
  for (const char* merge : {"a a", "aa aa", "Ġ a", "t h", "th e", "Ġ the", "Ã ©", "Ċ Ċ", "Ġ Ġ", "ĠĠ ĠĠ"}) {
    data.merges.push_back(merge);
    std::string text = merge;
    add(data, text.erase(text.find(' '), 1), TokenKind::kNormal);
  }
  for (const char* text : {"<|end|>", "<|endoftext|>"}) add(data, text, TokenKind::kControl);
  for (const char* text : {"   ", "<a>", "a><"}) add(data, text, TokenKind::kUserDefined);
  return data;
}

TokenizerData sentencepiece_data() {
  TokenizerData data;
  data.model = "llama";
  data.add_space_prefix = true;
  add(data, "<unk>", TokenKind::kUnknown);
  add(data, "<s>", TokenKind::kControl);
  constexpr char kHex[] = "0123456789ABCDEF";
  for (int b = 0; b < 256; ++b) add(data, {'<', '0', 'x', kHex[b >> 4], kHex[b & 15], '>'}, TokenKind::kByte);
  float score = 0;
  for (const char* text : {"aa", "aaaa", "▁a", "▁▁", "▁▁▁▁", "th", "he", "the", "▁the", "é", "a", "e", "h", "t", "▁", "世"}) {
    add(data, text, TokenKind::kNormal, --score);
  }
  add(data, "<a>", TokenKind::kUserDefined);
  return data;
}

void check_stream(const Tokenizer& tokenizer, const std::vector<Token>& tokens, std::string_view text) {
  StreamDecoder decoder(tokenizer, true);
  std::string out;
  for (const Token token : tokens) {
    for (std::string_view part = decoder.feed(token); !part.empty();) {
      const DecodedChar c = decode_utf8(part);
      require(c.state == Utf8::kValid);
      out.append(part.substr(0, c.length));
      part.remove_prefix(c.length);
    }
  }
  out.append(decoder.flush());
  require(out == replace_invalid_utf8(text));
}

void check_round_trip(const Tokenizer& tokenizer, std::string_view text, bool parse_special) {
  const auto tokens = tokenizer.encode(text, {false, parse_special});
  require(tokens.ok());
  for (const Token token : *tokens) require(token >= 0 && token < tokenizer.n_vocab());
  require(tokenizer.decode(*tokens, true) == text);
  if (tokenizer.find("▁") == kNoToken) check_stream(tokenizer, *tokens, text);
}

// SentencePiece writes blanks as U+2581, so that a real U+2581 comes back as a blank.
std::string without_blank_marks(std::string text) {
  for (size_t at; (at = text.find(kBlankMark)) != std::string::npos;) text[at] = 'x';
  return text;
}

// The input as the lines of a vocabulary: any result but a crash will do.
void use_as_vocabulary(std::string_view input, const char* model) {
  TokenizerData data;
  data.model = model;
  data.pre = "gpt-2";
  while (!input.empty()) {
    const size_t end = std::min(input.find('\n'), input.size());
    const std::string_view line = input.substr(0, end);
    const auto kind = static_cast<TokenKind>(line.empty() ? 1 : static_cast<uint8_t>(line[0]) % 7);
    if (line.find(' ') != std::string_view::npos) data.merges.emplace_back(line);
    add(data, std::string(line), kind, static_cast<float>(line.size()));
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  const Result<Tokenizer> tokenizer = Tokenizer::create(data);
  if (!tokenizer.ok()) return;
  const auto tokens = tokenizer->encode("the aa\xFF é <a>");
  if (tokens.ok()) static_cast<void>(tokenizer->decode(*tokens));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static const Tokenizer byte_level[] = {make(byte_level_data("default")),     make(byte_level_data("gpt-2")),
                                         make(byte_level_data("llama-bpe")),   make(byte_level_data("qwen2")),
                                         make(byte_level_data("gpt-4o")),      make(byte_level_data("deepseek-llm")),
                                         make(byte_level_data("deepseek-v3")), make(byte_level_data("deepseek-coder")),
                                         make(byte_level_data("starcoder")),   make(byte_level_data("falcon"))};
  static const Tokenizer sentencepiece = make(sentencepiece_data());
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  const bool parse_special = (bytes[0] & 0x80) != 0, vocabulary = (bytes[0] & 0x40) != 0;
  if (vocabulary) {
    use_as_vocabulary(text, "gpt2");
    use_as_vocabulary(text, "llama");
  } else {
    check_round_trip(byte_level[bytes[0] % std::size(byte_level)], text, parse_special);
    check_round_trip(sentencepiece, without_blank_marks(std::string(text)), parse_special);
  }
  return 0;
}

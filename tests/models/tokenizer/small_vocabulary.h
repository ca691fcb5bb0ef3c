// Vocabularies small enough to commit: 256 bytes and the first merges of GPT-2, and a part of Llama 2's. Made from the files
// in tests/data/tokenizer; programs run from the root of the repository.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"
#include "models/tokenizer/vocabulary.h"

namespace moe::test {

inline std::vector<std::string> data_lines(const std::string& name) {
  std::ifstream file("tests/data/tokenizer/" + name, std::ios::binary);
  REQUIRE_MESSAGE(file.good(), "tests/data/tokenizer/" << name);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("# ")) lines.push_back(line);
  }
  return lines;
}

inline std::string unescape(std::string_view s) {
  std::string out;
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '\\' || i + 1 == s.size()) {
      out += s[i];
      continue;
    }
    const char c = s[++i];
    out += c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c == '0' ? '\0' : c;
  }
  return out;
}

inline std::vector<std::string> fields(const std::string& line) {
  std::vector<std::string> out;
  std::stringstream stream(line);
  for (std::string field; std::getline(stream, field, '\t');) out.push_back(field);
  return out;
}

inline std::vector<Token> ids(const std::string& text) {
  std::vector<Token> out;
  std::stringstream stream(text);
  for (Token t; stream >> t;) out.push_back(t);
  return out;
}

inline void add_token(TokenizerData& data, std::string text, TokenKind kind) {
  data.tokens.push_back(std::move(text));
  data.types.push_back(static_cast<int32_t>(kind));
}

// 256 bytes, what the merges make of them, three control and three user-defined tokens.
inline TokenizerData small_bpe(const std::string& pre) {
  TokenizerData data;
  data.model = "gpt2";
  data.pre = pre;
  for (int b = 0; b < 256; ++b) {
    std::string text;
    append_utf8(level_char(static_cast<uint8_t>(b)), text);
    add_token(data, text, TokenKind::kNormal);
  }
  for (const std::string& merge : data_lines("small_bpe_merges.txt")) {
    data.merges.push_back(merge);
    std::string text = merge;
    text.erase(text.find(' '), 1);
    if (std::find(data.tokens.begin(), data.tokens.end(), text) == data.tokens.end()) {
      add_token(data, text, TokenKind::kNormal);
    }
  }
  for (const char* text : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) add_token(data, text, TokenKind::kControl);
  for (const char* text : {"    ", "  ", "<tag>"}) add_token(data, text, TokenKind::kUserDefined);
  data.bos = data.eos = static_cast<Token>(data.tokens.size()) - 6;
  return data;
}

inline TokenizerData small_spm() {
  TokenizerData data;
  data.model = "llama";
  for (const std::string& line : data_lines("small_spm.txt")) {
    const std::vector<std::string> row = fields(line);
    REQUIRE(row.size() == 3);
    add_token(data, unescape(row[2]), static_cast<TokenKind>(std::stoi(row[0])));
    data.scores.push_back(std::stof(row[1]));
  }
  data.unk = 0, data.bos = 1, data.eos = 2;
  data.add_bos = data.add_space_prefix = true;
  return data;
}

inline Tokenizer make(TokenizerData data) {
  Result<Tokenizer> tokenizer = Tokenizer::create(std::move(data));
  REQUIRE_MESSAGE(tokenizer.ok(), tokenizer.status().message());
  return std::move(tokenizer).value();
}

}  // namespace moe::test

// Text <-> tokens of one model.
//
//   MOE_ASSIGN(TokenizerData data, TokenizerData::from_metadata(file.metadata()));
//   MOE_ASSIGN(Tokenizer tokenizer, Tokenizer::create(std::move(data)));
//   MOE_ASSIGN(std::vector<Token> tokens, tokenizer.encode("Hello"));
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "models/tokenizer/tokenizer_data.h"

namespace moe {

class FragmentEncoder;
class SpecialSplitter;
class Vocabulary;

// Move-only; immutable after create(), so any number of threads may use it at once.
class Tokenizer {
 public:
  // Fails, with the key, what was wanted and what was found, for: unknown model or pre names; arrays of other lengths than
  // the tokens; two tokens of one text; merges of unknown texts; NaN scores; special ids outside the vocabulary; add_bos or
  // add_eos without such a token. Bytes without a token are not an error before a text needs them.
  static Result<Tokenizer> create(TokenizerData data);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  struct EncodeOptions {
    bool add_special = true;     // bos and eos where the model wants them
    bool parse_special = false;  // texts of control tokens become those tokens: for chat templates, not for users' text
  };

  // Any bytes: what is not UTF-8 survives byte by byte. User-defined tokens match always. Fails for texts above 512 MiB, and
  // where the vocabulary lacks a byte (byte-level BPE: a printable ASCII one; it leaves other bytes without a token out).
  Result<std::vector<Token>> encode(std::string_view text, EncodeOptions options) const;
  Result<std::vector<Token>> encode(std::string_view text) const;

  // The bytes a token stands for, maybe a part of a character; "" for control tokens unless render_special, and for unused
  // ones and ids outside the vocabulary. Harmony's <|channel|>, <|message|>, <|start|> and <|constrain|> are always shown.
  std::string_view piece(Token token, bool render_special = false) const;
  // The bytes of all tokens. The blank that encode() puts before a SentencePiece text is taken off again.
  std::string decode(std::span<const Token> tokens, bool render_special = false) const;
  // The longest piece in bytes.
  size_t longest_piece() const;

  int n_vocab() const;
  // kNoToken where the model has none. eot and eom are found by name where the file does not give them.
  Token bos() const;
  Token eos() const;
  Token eot() const;
  Token eom() const;
  Token unk() const;
  Token pad() const;
  Token sep() const;
  bool add_bos() const;
  bool add_eos() const;
  const std::string& chat_template() const;  // Jinja text, "" = none

  bool is_control(Token token) const;            // control or unknown: no text of its own
  bool is_end_of_generation(Token token) const;  // eos, eot, eom and well-known names (special_tokens.cpp)

  // The token whose text in the vocabulary is exactly this ("<|im_end|>", "Ġthe"), or kNoToken.
  Token find(std::string_view text) const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<const State> state);
  bool is_shown(Token token, bool render_special) const;

  std::unique_ptr<const State> state_;
};

}  // namespace moe

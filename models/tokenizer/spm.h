// SentencePiece's BPE as Llama-2 and Mixtral use it: the whole text is one word, starts as one symbol a character, and the
// pair of neighbours whose joined text is the token of the highest score is merged until none is left. What is no token then
// is written byte by byte.
#pragma once

#include <vector>

#include "models/tokenizer/fragment_encoder.h"
#include "models/tokenizer/merge_symbols.h"
#include "models/tokenizer/vocabulary.h"

namespace moe {

class SpmEncoder final : public FragmentEncoder {
 public:
  // `scores` (n_vocab); `unk` stands for bytes without a token, or kNoToken. `vocabulary` outlives the encoder. Refuses a
  // wrong number of scores and NaN.
  static Result<SpmEncoder> create(const Vocabulary& vocabulary, std::span<const float> scores, Token unk,
                                   bool add_space_prefix);

  Status encode(std::string_view text, bool opens_text, std::vector<Token>& out) const override;

 private:
  explicit SpmEncoder(const Vocabulary& vocabulary) : vocabulary_(&vocabulary) {}
  std::string mark_blanks(std::string_view text, bool opens_text) const;
  size_t word_end(std::string_view marked, size_t begin) const;
  Status encode_word(std::string_view word, MergeScratch& scratch, std::vector<Token>& out) const;
  Token find(std::string_view text) const;
  Status append_bytes(std::string_view bytes, std::vector<Token>& out) const;

  const Vocabulary* vocabulary_;
  std::vector<uint32_t> order_;  // (n_vocab): smaller for higher scores
  Token unk_ = kNoToken;
  bool add_space_prefix_ = false;
  bool blanks_open_words_ = false;  // no token goes on over a blank, so the text may be encoded word by word
};

}  // namespace moe

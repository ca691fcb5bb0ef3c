// Byte-level byte-pair encoding (GPT-2 and most models since): the text is cut into words by a regular expression, each word
// starts as one token a byte, and the pair of neighbours that stands first in the list of merges is merged until none is left.
#pragma once

#include <string>
#include <vector>

#include "models/tokenizer/fragment_encoder.h"
#include "models/tokenizer/merge_symbols.h"
#include "models/tokenizer/pretokenizer.h"
#include "models/tokenizer/vocabulary.h"

namespace moe {

class BpeEncoder final : public FragmentEncoder {
 public:
  // `merges` as in tokenizer.ggml.merges. `vocabulary` outlives the encoder. Refuses a merge of something that is neither a
  // token nor the result of an earlier merge.
  static Result<BpeEncoder> create(const Vocabulary& vocabulary, std::span<const std::string> merges, std::string_view pre);

  Status encode(std::string_view text, bool opens_text, std::vector<Token>& out) const override;

 private:
  // One slot of an open-addressing hash: (left, right) -> what they merge to, and when.
  struct Slot {
    Token left = kNoToken, right = kNoToken;
    uint32_t rank = 0;
    Token merged = kNoToken;
  };
  class MergeReader;

  explicit BpeEncoder(const Vocabulary& vocabulary) : vocabulary_(&vocabulary) {}
  Status add_merge(Token left, Token right, uint32_t rank, Token merged);
  bool find_merge(Token left, Token right, Merge& merge) const;
  Status encode_word(std::string_view word, MergeScratch& scratch, std::vector<Token>& out) const;
  Status append_bytes(std::string_view bytes, std::vector<Token>& out) const;
  Token whole_word(std::string_view word) const;

  const Vocabulary* vocabulary_;
  Pretokenizer pretokenizer_;
  std::vector<Slot> slots_;  // a power of two
};

}  // namespace moe

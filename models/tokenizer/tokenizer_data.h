// What a GGUF file's tokenizer.* keys say, as plain data: not yet checked, editable, also made by hand in tests and by
// programs that write models.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace moe {

class Metadata;

using Token = int32_t;
inline constexpr Token kNoToken = -1;

struct TokenizerData {
  std::string model;                // "gpt2": byte-level BPE; "llama": SentencePiece
  std::string pre;                  // pre-tokeniser of byte-level BPE; "" = default
  std::vector<std::string> tokens;  // (n_vocab)
  std::vector<float> scores;        // (n_vocab), needed by "llama" only
  std::vector<int32_t> types;       // (n_vocab) as TokenKind (vocabulary.h); empty = all normal
  std::vector<std::string> merges;  // "left right", best first; needed by "gpt2" only
  Token bos = kNoToken, eos = kNoToken, eot = kNoToken, eom = kNoToken, unk = kNoToken, pad = kNoToken, sep = kNoToken;
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = false;  // "llama" only: text is encoded as if it began with a blank
  std::string chat_template;      // Jinja text, "" = none

  // Absent keys get the defaults of llama.cpp (src/llama-vocab.cpp), except that byte-level BPE without eos_token_id has no
  // end token rather than token 11, which is Falcon's. Errors name the key.
  static Result<TokenizerData> from_metadata(const Metadata& metadata);
};

}  // namespace moe

// What byte-level BPE and SentencePiece have in common to the tokenizer: text without special tokens in, tokens out.
#pragma once

#include <string_view>
#include <vector>

#include "core/status.h"
#include "models/tokenizer/tokenizer_data.h"

namespace moe {

// Immutable and thread-safe.
class FragmentEncoder {
 public:
  virtual ~FragmentEncoder() = default;

  // Appends the tokens of `text` to `out`. `opens_text`: nothing, or a special token, comes before it. `text` is any bytes,
  // at most kMaxTextBytes. Fails only where the vocabulary has no token for a byte that the text needs.
  virtual Status encode(std::string_view text, bool opens_text, std::vector<Token>& out) const = 0;
};

inline constexpr size_t kMaxTextBytes = size_t{1} << 29;

}  // namespace moe

// Cuts text into the words inside which byte-level BPE merges: one list of regular expressions a tokenizer, looked up by the
// name that GGUF files give in tokenizer.ggml.pre.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "models/tokenizer/split_regex.h"

namespace moe {

// What a name in tokenizer.ggml.pre implies.
struct PretokenizerTraits {
  bool ignore_merges;  // a word that is a token stays one, whatever the merges say
  bool add_bos;        // default of tokenizer.ggml.add_bos_token
};

// Immutable and thread-safe.
class Pretokenizer {
 public:
  // "" means "default". NotFound, listing the known names, for any other unknown name.
  static Result<Pretokenizer> create(std::string_view name);

  // End offsets of the words of `text`, ascending; the last is text.size(). Nothing is dropped.
  std::vector<size_t> split(std::string_view text) const;

  PretokenizerTraits traits() const { return traits_; }

 private:
  std::vector<SplitRegex> stages_;
  PretokenizerTraits traits_{};
};

// The traits alone, without compiling anything; all false for an unknown name.
PretokenizerTraits pretokenizer_traits(std::string_view name);

// The regular expressions behind a name, empty when unknown. For tests.
std::span<const std::string_view> pretokenizer_patterns(std::string_view name);

}  // namespace moe

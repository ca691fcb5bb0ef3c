// Finds the special tokens in a text before it is encoded.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "models/tokenizer/vocabulary.h"

namespace moe {

// A stretch of text, or one special token in it.
struct Fragment {
  Token token;         // kNoToken: plain text
  size_t begin, size;  // in the text
};

// Immutable and thread-safe.
class SpecialSplitter {
 public:
  enum class Kinds : uint8_t { kUserDefined, kAll };  // kAll: control and unknown tokens too

  SpecialSplitter(const Vocabulary& vocabulary, Kinds kinds);

  // The text as fragments in order, no plain one empty. Where special tokens overlap, the longer one wins, then the lower id,
  // then the one on the left: what replacing the tokens one by one, longest first, gives (llama.cpp, tokenizer_st_partition).
  std::vector<Fragment> split(std::string_view text) const;

 private:
  struct Entry {
    std::string_view text;  // inside the vocabulary
    Token token;
  };

  // The longest special token shorter than `limit` at the start of `text`; null for none.
  const Entry* longest_prefix(std::string_view text, size_t limit) const;
  std::vector<Fragment> find_all(std::string_view text) const;

  std::vector<Entry> entries_;            // by text, so that those with a common beginning are neighbours
  std::array<uint32_t, 257> by_first_{};  // entries that begin with byte b: by_first_[b] to by_first_[b + 1]
};

}  // namespace moe

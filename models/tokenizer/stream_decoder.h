// Turns a stream of tokens into text for a terminal or a socket: what comes out is always whole UTF-8 characters, because a
// token may end in the middle of one.
#pragma once

#include <string>
#include <string_view>

#include "models/tokenizer/tokenizer.h"

namespace moe {

// Not thread-safe; the tokenizer outlives it. Allocates in the constructor only.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool render_special = false);

  // The text that this token completes, "" while a character is open. Bytes that can no longer become a character come out as
  // U+FFFD at once; at most 3 bytes wait. The view is valid until the next call.
  std::string_view feed(Token token);
  // Ends the text: what waits comes out as U+FFFD. The decoder may be used again.
  std::string_view flush();

 private:
  void drain(bool at_end);

  const Tokenizer* tokenizer_;
  bool render_special_;
  std::string pending_;  // bytes not yet written: the beginning of a character between calls
  std::string out_;
};

// The text with every broken sequence replaced by U+FFFD (maximal subparts, as browsers and Python do it).
std::string replace_invalid_utf8(std::string_view bytes);

}  // namespace moe

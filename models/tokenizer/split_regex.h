// A small regular-expression engine for pre-tokenisers. The regex of a model's tokenizer.json becomes one row of a table
// (pretokenizer.cpp) instead of one hand-written matcher each.
//
// Goals: the exact leftmost, first-alternative-wins, greedy result of the backtracking engines that the models were trained
// with; Unicode categories; linear time whatever the text. Non-goals: captures, back references, lazy or possessive
// quantifiers, and look-ahead at more than one character, none of which a pre-tokeniser needs.
//
// How: pattern -> list of prioritised instructions (Thompson's construction) -> deterministic automaton over classes of
// characters that no set of the pattern tells apart. Because look-ahead sees one character only, an automaton that decides
// on a match one character late can evaluate it while it steps (as RE2 does for \b). Rejected: std::regex (no Unicode,
// recursion as deep as the text, exponential time) and a backtracker (quadratic on long runs of blanks for `\s+$`).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace moe {

// Immutable and thread-safe after compile().
class SplitRegex {
 public:
  // Syntax: a|b, (...), (?:...), ?, *, +, {m}, {m,n}, [...], [^...], $, \s \S \r \n \t \d, \p{L} and \p{Lu} style categories
  // (also inside [...]), (?=X) and (?!X) with X one character set. `pattern` is UTF-8.
  static Result<SplitRegex> compile(std::string_view pattern);

  // Cuts every chunk of `text` into the matches of the pattern and the stretches between them ("isolated" splitting).
  // `ends` holds the end offset of each chunk, in and out, ascending; look-ahead does not see past the end of a chunk.
  // A byte that is not UTF-8 counts as one character U+FFFD.
  void split(std::string_view text, std::vector<size_t>& ends) const;

 private:
  friend class SplitRegexBuilder;
  struct FailedRun;

  static constexpr uint16_t kMatchBit = 0x8000;   // in a transition: a match ends before the character just read
  static constexpr uint16_t kDeadState = 0x7FFF;  // nothing can match any more; the start state is 0

  uint32_t class_at(std::string_view text, size_t pos, size_t end, uint32_t& length) const;
  size_t match(std::string_view text, size_t begin, size_t end, FailedRun& failed) const;
  void record_failure(std::string_view text, size_t begin, size_t end, FailedRun& failed) const;

  uint32_t end_class_ = 0;              // the class that stands for "end of chunk"; real classes are below it
  std::vector<uint8_t> bmp_class_;      // (0x10000): class of a code point
  std::vector<uint32_t> astral_first_;  // first code points, ascending, of runs of equal class above U+FFFF
  std::vector<uint8_t> astral_class_;   // class of each such run
  std::vector<uint16_t> transitions_;   // (n_states, end_class_ + 1): next state | kMatchBit
};

}  // namespace moe

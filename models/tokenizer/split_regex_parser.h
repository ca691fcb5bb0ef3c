// Pattern text -> prioritised instructions (Thompson's construction, as a Pike machine runs them).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "models/tokenizer/charset.h"

namespace moe {

struct RegexInstruction {
  enum Op : uint8_t {
    kSet,        // reads one character of `set`, goes to `next`
    kLookahead,  // goes to `next` if the following character is in `set` (is not, or there is none, when `negated`)
    kSplit,      // tries `next`, then `other`
    kMatch,
  };
  Op op;
  bool negated = false;
  int set = -1;
  int next = -1, other = -1;
};

struct RegexProgram {
  std::vector<CharSet> sets;
  std::vector<RegexInstruction> code;
  int start = -1;
};

Result<RegexProgram> parse_regex(std::string_view pattern);

}  // namespace moe

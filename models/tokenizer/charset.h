// A set of characters as a regular expression writes it: [^\r\n\p{L}], \s, x.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "models/tokenizer/unicode.h"

namespace moe {

struct CharSet {
  std::vector<std::pair<uint32_t, uint32_t>> ranges;  // first, last
  uint32_t categories = 0;                            // one bit a Category
  bool whitespace = false;                            // \s
  bool negated = false;

  bool contains(uint32_t code_point, Category category) const {
    bool inside = (categories >> static_cast<int>(category) & 1) != 0 || (whitespace && is_whitespace(code_point));
    for (const auto& [first, last] : ranges) inside = inside || (code_point >= first && code_point <= last);
    return inside != negated;
  }
  bool operator==(const CharSet&) const = default;
};

}  // namespace moe

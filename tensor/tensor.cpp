// Text of shapes, for dumps and errors.
#include "tensor/tensor.h"

namespace moe {

std::string to_string(const Shape& s) {
  std::string text = "(";
  for (int i = 0; i < s.rank; ++i) {
    if (i) text += ", ";
    text += s[i] == kTokens ? "T" : s[i] == kOutputs ? "R" : std::to_string(s[i]);
  }
  return text + ")";
}

}  // namespace moe

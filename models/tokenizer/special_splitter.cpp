#include "models/tokenizer/special_splitter.h"

#include <algorithm>
#include <queue>
#include <tuple>

namespace moe {
namespace {

bool is_special(TokenKind kind, SpecialSplitter::Kinds kinds) {
  if (kind == TokenKind::kUserDefined) return true;
  return kinds == SpecialSplitter::Kinds::kAll && (kind == TokenKind::kControl || kind == TokenKind::kUnknown);
}

struct Candidate {
  size_t size;
  Token token;
  size_t begin;
  // std::priority_queue gives the greatest first: longest, then lowest id, then leftmost.
  bool operator<(const Candidate& other) const {
    return std::tuple(size, other.token, other.begin) < std::tuple(other.size, token, begin);
  }
};

}  // namespace

SpecialSplitter::SpecialSplitter(const Vocabulary& vocabulary, Kinds kinds) {
  for (Token t = 0; t < vocabulary.size(); ++t) {
    if (!vocabulary.text(t).empty() && is_special(vocabulary.kind(t), kinds)) entries_.push_back({vocabulary.text(t), t});
  }
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.text < b.text; });
  for (const Entry& entry : entries_) ++by_first_[static_cast<size_t>(static_cast<uint8_t>(entry.text[0])) + 1];
  for (size_t b = 0; b < 256; ++b) by_first_[b + 1] += by_first_[b];
}

// Narrows the range of entries that agree with the text byte by byte; the range starts with the one that ends here, if any.
const SpecialSplitter::Entry* SpecialSplitter::longest_prefix(std::string_view text, size_t limit) const {
  const auto first_byte = static_cast<uint8_t>(text[0]);
  auto low = entries_.begin() + by_first_[first_byte], high = entries_.begin() + by_first_[size_t{first_byte} + 1];
  const Entry* longest = nullptr;
  for (size_t depth = 1; low != high && depth < limit; ++depth) {
    if (low->text.size() == depth) longest = &*low++;
    if (depth == text.size()) break;
    const auto at_depth = [depth](const Entry& e) { return static_cast<uint8_t>(e.text[depth]); };
    const auto byte = static_cast<uint8_t>(text[depth]);
    low = std::partition_point(low, high, [&](const Entry& e) { return at_depth(e) < byte; });
    high = std::partition_point(low, high, [&](const Entry& e) { return at_depth(e) == byte; });
  }
  return longest;
}

// Every place holds at most one candidate at a time; one that loses its end to a longer token makes way for the next shorter
// one at its place.
std::vector<Fragment> SpecialSplitter::find_all(std::string_view text) const {
  std::priority_queue<Candidate> candidates;
  const auto propose = [&](size_t begin, size_t limit) {
    const Entry* entry = longest_prefix(text.substr(begin), limit);
    if (entry != nullptr) candidates.push({entry->text.size(), entry->token, begin});
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (by_first_[byte] != by_first_[size_t{byte} + 1]) propose(i, text.size() + 1);
  }
  std::vector<Fragment> found;
  std::vector<bool> taken(candidates.empty() ? 0 : text.size());
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    if (taken[best.begin]) continue;
    if (taken[best.begin + best.size - 1]) {  // tokens taken before are no shorter, so checking both ends is enough
      propose(best.begin, best.size);
      continue;
    }
    std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(best.begin), best.size, true);
    found.push_back({best.token, best.begin, best.size});
  }
  std::sort(found.begin(), found.end(), [](const Fragment& a, const Fragment& b) { return a.begin < b.begin; });
  return found;
}

std::vector<Fragment> SpecialSplitter::split(std::string_view text) const {
  std::vector<Fragment> fragments;
  size_t plain = 0;
  for (const Fragment& special : find_all(text)) {
    if (special.begin > plain) fragments.push_back({kNoToken, plain, special.begin - plain});
    fragments.push_back(special);
    plain = special.begin + special.size;
  }
  if (plain < text.size()) fragments.push_back({kNoToken, plain, text.size() - plain});
  return fragments;
}

}  // namespace moe

// Instructions -> automaton. Characters that no set of the pattern tells apart share a class; a state is the ordered list of
// instructions still alive, best alternative first, and everything after a completed alternative is dropped, which is what
// "the first alternative wins" means.
#include <algorithm>
#include <map>

#include "models/tokenizer/split_regex.h"
#include "models/tokenizer/split_regex_parser.h"
#include "models/tokenizer/unicode.h"

namespace moe {
namespace {

constexpr size_t kMaxSets = 64;      // one bit each in a signature
constexpr size_t kMaxClasses = 255;  // stored in a byte
constexpr size_t kMaxStates = 2048;

}  // namespace

class SplitRegexBuilder {
 public:
  explicit SplitRegexBuilder(RegexProgram program) : program_(std::move(program)) {}

  Result<SplitRegex> build() {
    if (program_.sets.size() > kMaxSets) return Status::Unsupported("regex: more than 64 character sets");
    make_classes();
    if (signatures_.size() > kMaxClasses) return Status::Unsupported("regex: more than 255 character classes");
    regex_.end_class_ = static_cast<uint32_t>(signatures_.size());
    state_of({program_.start});
    for (size_t s = 0; s < states_.size(); ++s) {
      if (states_.size() > kMaxStates) return Status::Unsupported("regex: more than 2048 states");
      for (uint32_t cls = 0; cls <= regex_.end_class_; ++cls) regex_.transitions_.push_back(step(s, cls));
    }
    return std::move(regex_);
  }

 private:
  using Threads = std::vector<int>;  // instructions, best first

  // Every code point from `first` to the next boundary has the same category, whitespace and place in every range.
  std::vector<uint32_t> boundaries() const {
    std::vector<uint32_t> firsts;
    for (const uint32_t run : category_runs()) firsts.push_back(run >> 8);
    for (uint32_t c = 1; c < 0x3002; ++c) {
      if (is_whitespace(c) != is_whitespace(c - 1)) firsts.push_back(c);
    }
    for (const CharSet& set : program_.sets) {
      for (const auto& [first, last] : set.ranges) {
        firsts.push_back(first);
        if (last < kMaxCodePoint) firsts.push_back(last + 1);
      }
    }
    std::sort(firsts.begin(), firsts.end());
    firsts.erase(std::unique(firsts.begin(), firsts.end()), firsts.end());
    return firsts;
  }

  uint64_t signature(uint32_t code_point) const {
    const Category category = category_of(code_point);
    uint64_t bits = 0;
    for (size_t i = 0; i < program_.sets.size(); ++i) {
      bits |= static_cast<uint64_t>(program_.sets[i].contains(code_point, category)) << i;
    }
    return bits;
  }

  void make_classes() {
    regex_.bmp_class_.resize(0x10000);
    const std::vector<uint32_t> firsts = boundaries();
    for (size_t i = 0; i < firsts.size(); ++i) {
      const uint32_t end = i + 1 < firsts.size() ? firsts[i + 1] : kMaxCodePoint + 1;
      const auto cls = static_cast<uint8_t>(class_of(signature(firsts[i])));
      for (uint32_t c = firsts[i]; c < std::min(end, 0x10000u); ++c) regex_.bmp_class_[c] = cls;
      if (end <= 0x10000) continue;
      if (!regex_.astral_class_.empty() && regex_.astral_class_.back() == cls) continue;
      regex_.astral_first_.push_back(std::max(firsts[i], 0x10000u));
      regex_.astral_class_.push_back(cls);
    }
  }

  size_t class_of(uint64_t signature) {
    const auto found = std::find(signatures_.begin(), signatures_.end(), signature);
    if (found != signatures_.end()) return static_cast<size_t>(found - signatures_.begin());
    signatures_.push_back(signature);
    return signatures_.size() - 1;
  }

  uint16_t state_of(const Threads& threads) {
    if (threads.empty()) return SplitRegex::kDeadState;
    const auto [found, added] = state_ids_.try_emplace(threads, static_cast<uint16_t>(states_.size()));
    if (added) states_.push_back(threads);
    return found->second;
  }

  bool contains(int set, uint32_t cls) const { return cls != regex_.end_class_ && (signatures_[cls] >> set & 1) != 0; }

  uint16_t step(size_t state, uint32_t cls) {
    const Threads threads = states_[state];
    visited_.assign(program_.code.size(), false);
    Threads next;
    bool matched = false;
    for (const int thread : threads) {
      matched = follow(thread, cls, next);
      if (matched) break;
    }
    return static_cast<uint16_t>(state_of(next) | (matched ? SplitRegex::kMatchBit : 0));
  }

  // Adds what `instruction` leads to on reading `cls`; true when it completes a match before that character.
  bool follow(int instruction, uint32_t cls, Threads& next) {
    if (visited_[static_cast<size_t>(instruction)]) return false;
    visited_[static_cast<size_t>(instruction)] = true;
    const RegexInstruction& i = program_.code[static_cast<size_t>(instruction)];
    switch (i.op) {
      case RegexInstruction::kMatch:
        return true;
      case RegexInstruction::kSplit:
        return follow(i.next, cls, next) || follow(i.other, cls, next);
      case RegexInstruction::kLookahead:
        return contains(i.set, cls) != i.negated && follow(i.next, cls, next);
      case RegexInstruction::kSet:
        if (contains(i.set, cls) && std::find(next.begin(), next.end(), i.next) == next.end()) next.push_back(i.next);
        return false;
    }
    return false;
  }

  RegexProgram program_;
  SplitRegex regex_;
  std::vector<uint64_t> signatures_;  // of each class: bit i = inside set i
  std::vector<Threads> states_;
  std::map<Threads, uint16_t> state_ids_;
  std::vector<bool> visited_;
};

Result<SplitRegex> SplitRegex::compile(std::string_view pattern) {
  MOE_ASSIGN(RegexProgram program, parse_regex(pattern));
  return SplitRegexBuilder(std::move(program)).build();
}

}  // namespace moe

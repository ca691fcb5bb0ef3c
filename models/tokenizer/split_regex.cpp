// Running the automaton; split_regex_builder.cpp makes it.
#include "models/tokenizer/split_regex.h"

#include <algorithm>

#include "models/tokenizer/unicode.h"

namespace moe {

// The states that the last long attempt without a match went through. An attempt that reaches one of them at the same place
// must fail too, which keeps `\s+$` linear on a long run of blanks: without it every blank would scan the rest of the run.
struct SplitRegex::FailedRun {
  size_t begin = 0;
  std::vector<uint16_t> state_at;  // state before the character at begin + i

  bool covers(size_t pos, uint16_t state) const {
    return pos >= begin && pos - begin < state_at.size() && state_at[pos - begin] == state;
  }
};

namespace {

// Failed attempts shorter than this many bytes are not worth remembering.
constexpr size_t kLongAttempt = 32;

}  // namespace

// The class of the character at `pos` and its length in bytes; at the end of the chunk the end class, length 0.
inline uint32_t SplitRegex::class_at(std::string_view text, size_t pos, size_t end, uint32_t& length) const {
  if (pos == end) {
    length = 0;
    return end_class_;
  }
  const auto first = static_cast<uint8_t>(text[pos]);
  if (first < 0x80) {
    length = 1;
    return bmp_class_[first];
  }
  const DecodedChar c = decode_utf8(text.substr(pos, end - pos));
  length = c.state == Utf8::kValid ? c.length : 1;
  if (c.code_point < 0x10000) return bmp_class_[c.code_point];
  const auto after = std::upper_bound(astral_first_.begin(), astral_first_.end(), c.code_point);
  return astral_class_[static_cast<size_t>(after - astral_first_.begin()) - 1];
}

// The end of the match that starts at `begin`, or `begin` when there is none.
size_t SplitRegex::match(std::string_view text, size_t begin, size_t end, FailedRun& failed) const {
  size_t last_match = begin, pos = begin;
  for (uint16_t state = 0; state != kDeadState;) {
    if (last_match == begin && failed.covers(pos, state)) return begin;
    uint32_t length;
    const uint32_t cls = class_at(text, pos, end, length);
    const uint16_t step = transitions_[state * (end_class_ + 1) + cls];
    if (step & kMatchBit) last_match = pos;
    state = step & static_cast<uint16_t>(~kMatchBit);
    pos += length;
  }
  if (last_match == begin && pos - begin > kLongAttempt) record_failure(text, begin, end, failed);
  return last_match;
}

void SplitRegex::record_failure(std::string_view text, size_t begin, size_t end, FailedRun& failed) const {
  failed.begin = begin;
  failed.state_at.clear();
  for (uint16_t state = 0; state != kDeadState;) {
    uint32_t length;
    const uint32_t cls = class_at(text, begin + failed.state_at.size(), end, length);
    failed.state_at.push_back(state);
    if (length == 0) break;
    failed.state_at.resize(failed.state_at.size() + length - 1, kDeadState);
    state = transitions_[state * (end_class_ + 1) + cls] & static_cast<uint16_t>(~kMatchBit);
  }
}

void SplitRegex::split(std::string_view text, std::vector<size_t>& ends) const {
  std::vector<size_t> out;
  out.reserve(ends.size() * 2);
  size_t begin = 0;
  for (const size_t end : ends) {
    FailedRun failed;
    size_t unmatched = begin;
    for (size_t pos = begin; pos < end;) {
      const size_t match_end = match(text, pos, end, failed);
      if (match_end == pos) {
        uint32_t length;
        class_at(text, pos, end, length);
        pos += length;
        continue;
      }
      if (unmatched < pos) out.push_back(pos);
      out.push_back(match_end);
      pos = unmatched = match_end;
    }
    if (unmatched < end) out.push_back(end);
    begin = end;
  }
  ends = std::move(out);
}

}  // namespace moe

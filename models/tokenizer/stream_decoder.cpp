#include "models/tokenizer/stream_decoder.h"

#include "models/tokenizer/unicode.h"

namespace moe {
namespace {

constexpr size_t kMaxPending = 3, kReplacementBytes = 3;

// Appends the characters of `bytes` to `out`, U+FFFD for broken ones, and returns how many bytes of an unfinished character
// are left at the end; none when `at_end`.
size_t append_characters(std::string_view bytes, bool at_end, std::string& out) {
  while (!bytes.empty()) {
    const DecodedChar c = decode_utf8(bytes);
    if (c.state == Utf8::kTruncated && !at_end) return bytes.size();
    if (c.state == Utf8::kValid) {
      out.append(bytes.substr(0, c.length));
    } else {
      append_utf8(kReplacementCharacter, out);
    }
    bytes.remove_prefix(c.length);
  }
  return 0;
}

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool render_special)
    : tokenizer_(&tokenizer), render_special_(render_special) {
  pending_.reserve(kMaxPending + tokenizer.longest_piece());
  out_.reserve((kMaxPending + tokenizer.longest_piece()) * kReplacementBytes);
}

std::string_view StreamDecoder::feed(Token token) {
  pending_.append(tokenizer_->piece(token, render_special_));
  drain(false);
  return out_;
}

std::string_view StreamDecoder::flush() {
  drain(true);
  return out_;
}

void StreamDecoder::drain(bool at_end) {
  out_.clear();
  const size_t left = append_characters(pending_, at_end, out_);
  pending_.erase(0, pending_.size() - left);
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string out;
  append_characters(bytes, true, out);
  return out;
}

}  // namespace moe

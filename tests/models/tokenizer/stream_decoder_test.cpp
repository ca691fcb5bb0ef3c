#include "models/tokenizer/stream_decoder.h"

#include <doctest/doctest.h>

#include "tests/allocation_count.h"
#include "tests/models/tokenizer/small_vocabulary.h"

namespace moe {
namespace {

// Byte tokens have the number of their byte in small_bpe.
std::string streamed(const Tokenizer& tokenizer, std::string_view bytes) {
  StreamDecoder decoder(tokenizer);
  std::string out;
  for (const char c : bytes) out += decoder.feed(static_cast<uint8_t>(c));
  out += decoder.flush();
  return out;
}

bool is_whole(std::string_view text) {
  while (!text.empty()) {
    const DecodedChar c = decode_utf8(text);
    if (c.state != Utf8::kValid) return false;
    text.remove_prefix(c.length);
  }
  return true;
}

}  // namespace

TEST_CASE("stream decoder: a character comes out with its last byte") {
  const Tokenizer tokenizer = test::make(test::small_bpe("gpt-2"));
  StreamDecoder decoder(tokenizer);
  CHECK(decoder.feed('a') == "a");
  CHECK(decoder.feed(0xF0) == "");
  CHECK(decoder.feed(0x9F) == "");
  CHECK(decoder.feed(0x98) == "");
  CHECK(decoder.feed(0x81) == "😁");
  CHECK(decoder.feed(tokenizer.eos()) == "");
  CHECK(decoder.flush() == "");
}

TEST_CASE("stream decoder: bytes that can never be a character are replaced at once") {
  const Tokenizer tokenizer = test::make(test::small_bpe("gpt-2"));
  StreamDecoder decoder(tokenizer);
  CHECK(decoder.feed(0xFF) == "\uFFFD");
  CHECK(decoder.feed(0x80) == "\uFFFD");
  CHECK(decoder.feed(0xED) == "");
  CHECK(decoder.feed(0xA0) == "\uFFFD\uFFFD");  // a surrogate's second byte
  CHECK(decoder.feed(0xE2) == "");
  CHECK(decoder.feed('x') == "\uFFFDx");
}

TEST_CASE("stream decoder: flush replaces what waits and starts anew") {
  const Tokenizer tokenizer = test::make(test::small_bpe("gpt-2"));
  StreamDecoder decoder(tokenizer);
  CHECK(decoder.feed(0xE2) == "");
  CHECK(decoder.feed(0x96) == "");
  CHECK(decoder.flush() == "\uFFFD");
  CHECK(decoder.flush() == "");
  CHECK(decoder.feed(0x81) == "\uFFFD");
  CHECK(decoder.feed('b') == "b");
}

TEST_CASE("stream decoder: the stream is the text with broken parts replaced, whole after every token") {
  const Tokenizer tokenizer = test::make(test::small_bpe("gpt-2"));
  uint32_t seed = 7;
  const std::string_view alphabet("a\xC3\xA9\xE2\x96\x81\xF0\x9F\x98\x81\xFF\xED\xA0\xF4\x90", 16);
  for (int round = 0; round < 200; ++round) {
    std::string bytes;
    StreamDecoder decoder(tokenizer);
    std::string out;
    for (int i = 0; i < 40; ++i) {
      seed = seed * 1664525 + 1013904223;
      bytes += alphabet[(seed >> 24) % alphabet.size()];
      const std::string_view part = decoder.feed(static_cast<uint8_t>(bytes.back()));
      REQUIRE(is_whole(part));
      out += part;
    }
    out += decoder.flush();
    CHECK(out == replace_invalid_utf8(bytes));
  }
  CHECK(streamed(tokenizer, "Ünïcödé 世界 🦙") == "Ünïcödé 世界 🦙");
}

TEST_CASE("stream decoder: special tokens show only when asked for") {
  const Tokenizer tokenizer = test::make(test::small_bpe("gpt-2"));
  StreamDecoder hidden(tokenizer), shown(tokenizer, true);
  const Token end = tokenizer.find("<|im_end|>");
  CHECK(hidden.feed(end) == "");
  CHECK(shown.feed(end) == "<|im_end|>");
}

TEST_CASE("stream decoder: feeding allocates nothing") {
  const Tokenizer tokenizer = test::make(test::small_bpe("gpt-2"));
  StreamDecoder decoder(tokenizer, true);
  size_t bytes = 0;
  const uint64_t before = test::allocation_count();
  for (int round = 0; round < 3; ++round) {
    for (Token t = 0; t < tokenizer.n_vocab(); ++t) bytes += decoder.feed(t).size();
    bytes += decoder.flush().size();
  }
  CHECK(test::allocation_count() == before);
  CHECK(bytes > 3000);
}

}  // namespace moe

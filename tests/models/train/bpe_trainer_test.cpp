#include "models/train/bpe_trainer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

#include "core/rng.h"
#include "models/io/metadata.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"
#include "models/tokenizer/vocabulary.h"

using namespace moe;

namespace {

using Words = std::map<std::string, uint64_t>;

Words words_of(const WordCounter& counter) {
  Words words;
  counter.for_each([&](std::string_view word, uint64_t count) { words[std::string(word)] = count; });
  return words;
}

WordCounter count(std::string_view text, const char* pre = "gpt-2") {
  WordCounter counter = WordCounter::create(pre).value();
  counter.add(text);
  return counter;
}

// Words of few letters, so that merges overlap and meet: "abab", "aaa".
std::string letters(uint64_t seed, size_t n_words, int n_letters) {
  Rng rng(seed);
  std::string text;
  for (size_t i = 0; i < n_words; ++i) {
    for (uint64_t n = 1 + rng.below(9); n > 0; --n)
      text += static_cast<char>('a' + rng.below(static_cast<uint64_t>(n_letters)));
    text += ' ';
  }
  return text;
}

// The definition: count all pairs anew before every merge, take the best, replace it from left to right.
std::vector<std::string> merges_by_definition(const Words& words, size_t n_tokens, uint64_t min_count) {
  std::vector<std::pair<std::vector<std::string>, uint64_t>> sequences;
  for (const auto& [word, n] : words) {
    std::vector<std::string> symbols;
    for (const char c : word) symbols.push_back(std::string(1, c));
    sequences.push_back({symbols, n});
  }
  std::vector<std::string> merges, texts;
  while (texts.size() < n_tokens) {
    std::map<std::pair<std::string, std::string>, uint64_t> counts;
    for (const auto& [s, n] : sequences)
      for (size_t i = 0; i + 1 < s.size(); ++i) {
        counts[{s[i], s[i + 1]}] += n;
      }
    const auto best = std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
      return a.second != b.second ? a.second < b.second : a.first > b.first;
    });
    if (best == counts.end() || best->second < min_count) break;
    const auto [left, right] = best->first;
    std::string line = left;
    line.append(" ").append(right);
    if (std::find(merges.begin(), merges.end(), line) == merges.end()) merges.push_back(line);
    if (std::find(texts.begin(), texts.end(), left + right) == texts.end()) texts.push_back(left + right);
    for (auto& [s, n] : sequences) {
      std::vector<std::string> out;
      for (size_t i = 0; i < s.size(); ++i) {
        const bool here = s[i] == left && i + 1 < s.size() && s[i + 1] == right;
        out.push_back(here ? left + right : s[i]);
        i += here;
      }
      s = out;
    }
  }
  return merges;
}

std::string unlevel(const std::string& text) {
  std::string bytes;
  for (size_t i = 0; i < text.size();) {
    const DecodedChar c = decode_utf8(std::string_view(text).substr(i));
    const int byte = byte_from_level_char(c.code_point);
    bytes += byte < 0 || text[i] == ' ' ? text[i] : static_cast<char>(byte);  // " " divides a merge
    i += c.length;
  }
  return bytes;
}

}  // namespace

TEST_CASE("words are counted as the pre-tokeniser cuts them") {
  const Words words = words_of(count("the cat, the dog\nthe cat"));
  CHECK(words == Words{{"the", 2}, {" cat", 2}, {",", 1}, {" the", 1}, {" dog", 1}, {"\n", 1}});
}

TEST_CASE("words do not reach from one document into the next") {
  WordCounter counter = WordCounter::create("gpt-2").value();
  counter.add("foo");
  counter.add("bar");
  CHECK(words_of(counter) == Words{{"foo", 1}, {"bar", 1}});
}

TEST_CASE("word counts are the same for any number of threads, also when words are forgotten") {
  std::vector<std::string> documents;
  for (uint64_t d = 0; d < 40; ++d) documents.push_back(letters(d, 3000, 20) + "\nnext line " + letters(d + 100, 9000, 6));
  const std::vector<std::string_view> views(documents.begin(), documents.end());
  for (const size_t most : {size_t{1} << 20, size_t{2048}}) {
    WordCounter serial = WordCounter::create("llama-bpe", most).value();
    for (const std::string_view v : views) serial.add(v);
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      WordCounter counter = WordCounter::create("llama-bpe", most).value();
      counter.add(views, pool);
      CHECK(words_of(counter) == words_of(serial));
      CHECK(counter.forgotten() == serial.forgotten());
    }
    CHECK((serial.forgotten() > 0) == (most == 2048));
    CHECK(serial.n_words() <= most);
  }
}

TEST_CASE("a long text counts as the words of its pieces and as the words of the whole") {
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "line number " + std::to_string(i % 977) + "\n";
  Words wanted;
  const Pretokenizer pre = Pretokenizer::create("gpt-2").value();
  size_t begin = 0;
  for (const size_t end : pre.split(text)) ++wanted[text.substr(begin, end - begin)], begin = end;
  CHECK(words_of(count(text)) == wanted);
}

TEST_CASE("a word without end is counted in pieces") {
  const Words words = words_of(count(std::string(2000, 'x')));
  CHECK(words == Words{{std::string(512, 'x'), 3}, {std::string(464, 'x'), 1}});
}

TEST_CASE("merges are those of the definition") {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const WordCounter counter = count(letters(seed, 150, seed % 2 ? 2 : 4));
    for (const uint64_t min_count : {1, 3}) {
      TrainedBpe trained =
          train_bpe(counter, {.n_vocab = 257 + 120, .specials = {"<|endoftext|>"}, .min_count = min_count}).value();
      for (std::string& m : trained.data.merges) m = unlevel(m);
      CHECK(trained.data.merges == merges_by_definition(words_of(counter), 120, min_count));
    }
  }
}

TEST_CASE("of pairs equally frequent the one of smaller bytes is merged first") {
  const TrainedBpe trained = train_bpe(count("zy ba\ncd"), {.n_vocab = 300, .specials = {"<|end|>"}, .min_count = 1}).value();
  REQUIRE(trained.data.merges.size() == 4);
  CHECK(trained.data.merges == std::vector<std::string>{"Ġ b", "Ġb a", "c d", "z y"});
}

TEST_CASE("a smaller vocabulary is the beginning of a larger one") {
  const WordCounter counter = count(letters(5, 2000, 8));
  const TrainedBpe small = train_bpe(counter, {.n_vocab = 300}).value(), large = train_bpe(counter, {.n_vocab = 400}).value();
  REQUIRE(small.data.tokens.size() == 300);
  REQUIRE(large.data.tokens.size() == 400);
  CHECK(std::equal(small.data.tokens.begin(), small.data.tokens.end(), large.data.tokens.begin()));
}

TEST_CASE("a text that supports fewer tokens gives fewer, and says so") {
  const TrainedBpe trained = train_bpe(count("abab"), {.n_vocab = 1000}).value();
  CHECK(trained.data.tokens.size() == 258);
  CHECK(trained.repair == "wanted 1000 tokens; the text supports 258: no other pair occurs 2 times");
  CHECK(train_bpe(count(""), {.n_vocab = 257}).value().repair.empty());
  CHECK(train_bpe(count(""), {.n_vocab = 258}).value().data.tokens.size() == 257);
}

TEST_CASE("no merge makes the text of a special token, nor a longer token than allowed") {
  const WordCounter counter = count("hello hello hello");
  TrainedBpe trained = train_bpe(counter, {.n_vocab = 300, .specials = {"hello"}, .min_count = 1}).value();
  CHECK(std::count(trained.data.tokens.begin(), trained.data.tokens.end(), "hello") == 1);
  CHECK(Tokenizer::create(trained.data).ok());
  trained = train_bpe(counter, {.n_vocab = 300, .min_count = 1, .max_token_bytes = 3}).value();
  for (size_t t = 257; t < trained.data.tokens.size(); ++t) CHECK(unlevel(trained.data.tokens[t]).size() <= 3);
}

TEST_CASE("settings that make no vocabulary are refused") {
  const WordCounter counter = count("text");
  const auto message = [&](const BpeTrainerOptions& o) { return train_bpe(counter, o).status().message(); };
  CHECK(message({.n_vocab = 256}).find("wanted 257 (256 bytes and 1 special tokens)") != std::string::npos);
  CHECK(message({.n_vocab = -1}).find("found -1") != std::string::npos);
  CHECK(message({.specials = {}}).find("special token") != std::string::npos);
  CHECK(message({.specials = {"<e>", "<e>"}}).find("'<e>'") != std::string::npos);
  CHECK(message({.specials = {"a"}}).find("'a'") != std::string::npos);
  CHECK(message({.specials = {""}}).find("empty") != std::string::npos);
  CHECK(message({.min_count = 0}).find("min_count") != std::string::npos);
  CHECK(WordCounter::create("no such").status().code() == StatusCode::kNotFound);
  CHECK(WordCounter::create("gpt-2", 10).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("training can be cancelled at any merge") {
  const WordCounter counter = count(letters(1, 500, 8));
  int calls = 0;
  const auto trained = train_bpe(counter, {.n_vocab = 320}, [&](int tokens, int wanted) {
    CHECK(tokens == 258 + calls);
    CHECK(wanted == 320);
    return ++calls < 7;
  });
  CHECK(trained.status().code() == StatusCode::kCancelled);
  CHECK(calls == 7);
}

TEST_CASE("a trained vocabulary survives its file's keys and gives back any bytes") {
  for (const char* pre : {"gpt-2", "llama-bpe"}) {
    const TrainedBpe trained =
        train_bpe(count(letters(3, 3000, 12) + " Grüße, 世界 世界! 12 345\r\n", pre), {.n_vocab = 500}).value();
    Metadata keys("keys");
    set_tokenizer(trained.data, keys);
    const TokenizerData read = TokenizerData::from_metadata(keys).value();
    CHECK(read.tokens == trained.data.tokens);
    CHECK(read.types == trained.data.types);
    CHECK(read.merges == trained.data.merges);
    CHECK(read.pre == pre);
    CHECK(read.eos == 256);
    CHECK_FALSE(read.add_bos);
    const Tokenizer tokenizer = Tokenizer::create(read).value();
    CHECK(tokenizer.is_control(256));
    CHECK(tokenizer.is_end_of_generation(256));
    Rng rng(9);
    for (int round = 0; round < 50; ++round) {
      std::string text;
      for (int i = 0; i < 200; ++i) text += static_cast<char>(rng.below(round % 2 ? 256 : 128));
      text += round % 3 ? "<|endoftext|>" : "\xE4\xB8";
      const std::vector<Token> tokens = tokenizer.encode(text).value();
      CHECK(std::find(tokens.begin(), tokens.end(), 256) == tokens.end());
      CHECK(tokenizer.decode(tokens) == text);
    }
  }
}

TEST_CASE("the words that a vocabulary was trained on are encoded by its merges") {
  const TrainedBpe trained = train_bpe(count(letters(7, 4000, 5)), {.n_vocab = 2000, .min_count = 1}).value();
  const Tokenizer tokenizer = Tokenizer::create(trained.data).value();
  const std::string text = letters(7, 4000, 5);
  CHECK(tokenizer.encode(text).value().size() * 3 < text.size());
}

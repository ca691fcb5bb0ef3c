#include "models/tokenizer/tokenizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "models/io/metadata.h"
#include "tests/models/tokenizer/small_vocabulary.h"

namespace moe {
namespace {

using test::ids;
using test::make;
using test::small_bpe;
using test::small_spm;

constexpr Tokenizer::EncodeOptions kPlain = {false, false};
constexpr Tokenizer::EncodeOptions kParse = {false, true};

std::vector<Token> encode(const Tokenizer& tokenizer, std::string_view text, Tokenizer::EncodeOptions options = kPlain) {
  Result<std::vector<Token>> tokens = tokenizer.encode(text, options);
  REQUIRE_MESSAGE(tokens.ok(), tokens.status().message());
  return std::move(tokens).value();
}

std::string pseudo_random_bytes(size_t n, uint32_t seed) {
  std::string out;
  for (size_t i = 0; i < n; ++i) {
    seed = seed * 1664525 + 1013904223;
    out += static_cast<char>(seed >> 24);
  }
  return out;
}

void check_refused(TokenizerData data, std::initializer_list<const char*> parts) {
  const Result<Tokenizer> tokenizer = Tokenizer::create(std::move(data));
  REQUIRE_FALSE(tokenizer.ok());
  for (const char* part : parts) {
    CHECK_MESSAGE(tokenizer.status().message().find(part) != std::string::npos, tokenizer.status().message());
  }
}

}  // namespace

TEST_CASE("tokenizer: byte-level BPE gives the ids of llama.cpp for every pre-tokeniser") {
  std::string name;
  std::vector<Tokenizer> current;
  for (const std::string& line : test::data_lines("small_bpe_ids.txt")) {
    const std::vector<std::string> row = test::fields(line);
    REQUIRE(row.size() == 3);
    if (row[0] != name) {
      name = row[0];
      current.clear();
      current.push_back(make(small_bpe(name)));
    }
    const std::string text = test::unescape(row[1]);
    CHECK_MESSAGE(encode(current[0], text) == ids(row[2]), line);
    CHECK(current[0].decode(ids(row[2])) == text);
  }
  CHECK(name == "mpt");
}

TEST_CASE("tokenizer: SentencePiece gives the ids of llama.cpp") {
  const Tokenizer tokenizer = make(small_spm());
  for (const std::string& line : test::data_lines("small_spm_ids.txt")) {
    const std::vector<std::string> row = test::fields(line);
    REQUIRE(row.size() == 2);
    const std::string text = test::unescape(row[0]);
    CHECK_MESSAGE(encode(tokenizer, text) == ids(row[1]), line);
    CHECK(tokenizer.decode(ids(row[1])) == text);
  }
}

TEST_CASE("tokenizer: any bytes come back from tokens") {
  for (const std::string name : {"default", "llama-bpe", "gpt-4o", "deepseek-llm"}) {
    const Tokenizer tokenizer = make(small_bpe(name));
    for (uint32_t seed = 1; seed < 40; ++seed) {
      const std::string text = pseudo_random_bytes(seed * 13, seed);
      CHECK(tokenizer.decode(encode(tokenizer, text)) == text);
    }
  }
  const Tokenizer spm = make(small_spm());
  for (uint32_t seed = 1; seed < 40; ++seed) {
    const std::string text = pseudo_random_bytes(seed * 13, seed);
    CHECK(spm.decode(encode(spm, text)) == text);
  }
}

TEST_CASE("tokenizer: each invalid byte is a byte of its own") {
  const Tokenizer spm = make(small_spm());
  // <0xE2> <0x96>, then blank mark: the beginning of a character that does not go on, and a real blank.
  CHECK(encode(spm, "a\xE2\x96 ") == std::vector<Token>{encode(spm, "a")[0], 3 + 0xE2, 3 + 0x96, spm.find("▁")});
  const Tokenizer bpe = make(small_bpe("gpt-2"));
  CHECK(encode(bpe, "\xFF\xFE") == std::vector<Token>{0xFF, 0xFE});
}

TEST_CASE("tokenizer: control tokens are text until asked for") {
  const Tokenizer tokenizer = make(small_bpe("gpt-2"));
  const Token start = tokenizer.find("<|im_start|>"), end = tokenizer.find("<|im_end|>");
  CHECK(encode(tokenizer, "<|im_start|>a<|im_end|>", kParse) == std::vector<Token>{start, 'a', end});
  CHECK(encode(tokenizer, "<|im_start|>").size() > 3);
  CHECK(tokenizer.decode(encode(tokenizer, "<|im_start|>")) == "<|im_start|>");
  CHECK(tokenizer.is_control(start));
  CHECK(tokenizer.piece(start) == "");
  CHECK(tokenizer.piece(start, true) == "<|im_start|>");
  const std::vector<Token> mixed = {start, 'a', end};
  CHECK(tokenizer.decode(mixed) == "a");
  CHECK(tokenizer.decode(mixed, true) == "<|im_start|>a<|im_end|>");
}

TEST_CASE("tokenizer: user-defined tokens always match, the longest first") {
  const Tokenizer tokenizer = make(small_bpe("gpt-2"));
  const Token four = tokenizer.find("    "), two = tokenizer.find("  "), tag = tokenizer.find("<tag>");
  CHECK(encode(tokenizer, "x<tag>y") == std::vector<Token>{'x', tag, 'y'});
  // Seven blanks: four from the left, then two, then one; "  " never takes what "    " can have.
  CHECK(encode(tokenizer, "       x") == std::vector<Token>{four, two, ' ', 'x'});
  CHECK_FALSE(tokenizer.is_control(tag));
}

TEST_CASE("tokenizer: overlapping special tokens go to the longer, though it begins later") {
  TokenizerData data = small_bpe("gpt-2");
  for (const char* text : {"<ab", "bcde"}) test::add_token(data, text, TokenKind::kUserDefined);
  const Tokenizer tokenizer = make(std::move(data));
  // "bcde" wins the b, so "<ab" cannot match any more.
  CHECK(encode(tokenizer, "<abcde") == std::vector<Token>{'<', 'a', tokenizer.find("bcde")});
  CHECK(encode(tokenizer, "<abc") == std::vector<Token>{tokenizer.find("<ab"), 'c'});
}

TEST_CASE("tokenizer: bos and eos are added where the model wants them") {
  TokenizerData data = small_spm();
  data.add_eos = true;
  const Tokenizer tokenizer = make(std::move(data));
  const std::vector<Token> tokens = *tokenizer.encode("a");
  CHECK(tokens.front() == tokenizer.bos());
  CHECK(tokens.back() == tokenizer.eos());
  CHECK(tokens.size() == 3);
  CHECK(*tokenizer.encode("") == std::vector<Token>{tokenizer.bos(), tokenizer.eos()});
  CHECK(encode(tokenizer, "").empty());
  CHECK(tokenizer.decode(tokens) == "a");
}

TEST_CASE("tokenizer: SentencePiece puts a blank before text that opens or follows a special token") {
  const Tokenizer tokenizer = make(small_spm());
  const Token he = tokenizer.find("▁he");
  REQUIRE(he != kNoToken);
  CHECK(encode(tokenizer, "he</s>he", kParse) == std::vector<Token>{he, tokenizer.eos(), he});
  CHECK(tokenizer.decode(encode(tokenizer, "he</s>he", kParse), true) == "he</s>he");
  TokenizerData bare = small_spm();
  bare.add_space_prefix = false;
  CHECK(encode(make(std::move(bare)), "he") != std::vector<Token>{he});
}

TEST_CASE("tokenizer: the end of generation is known by id and by name") {
  const Tokenizer tokenizer = make(small_bpe("gpt-2"));
  CHECK(tokenizer.is_end_of_generation(tokenizer.find("<|im_end|>")));
  CHECK(tokenizer.is_end_of_generation(tokenizer.eos()));
  CHECK(tokenizer.eot() == tokenizer.find("<|im_end|>"));
  CHECK_FALSE(tokenizer.is_end_of_generation(tokenizer.find("<|im_start|>")));
  CHECK_FALSE(tokenizer.is_end_of_generation('a'));
  CHECK_FALSE(tokenizer.is_end_of_generation(-1));
  CHECK_FALSE(tokenizer.is_end_of_generation(1 << 30));
}

TEST_CASE("tokenizer: Harmony's <|end|> closes a message, not the generation, and its channels are shown") {
  TokenizerData data = small_bpe("gpt-4o");
  for (const char* text : {"<|return|>", "<|call|>", "<|end|>", "<|channel|>"})
    test::add_token(data, text, TokenKind::kControl);
  data.eot = static_cast<Token>(data.tokens.size()) - 2;
  const Tokenizer tokenizer = make(std::move(data));
  CHECK(tokenizer.is_end_of_generation(tokenizer.find("<|return|>")));
  CHECK(tokenizer.is_end_of_generation(tokenizer.find("<|call|>")));
  CHECK_FALSE(tokenizer.is_end_of_generation(tokenizer.find("<|end|>")));
  CHECK(tokenizer.piece(tokenizer.find("<|channel|>")) == "<|channel|>");
  CHECK(tokenizer.piece(tokenizer.find("<|end|>")) == "");
}

TEST_CASE("tokenizer: ids outside the vocabulary decode to nothing") {
  const Tokenizer tokenizer = make(small_bpe("gpt-2"));
  const std::vector<Token> tokens = {-1, 'a', 1 << 30, std::numeric_limits<Token>::min()};
  CHECK(tokenizer.decode(tokens) == "a");
  CHECK(tokenizer.piece(-5) == "");
}

TEST_CASE("tokenizer: a merge through a text that is no token splits into bytes again") {
  TokenizerData data = small_bpe("gpt-2");
  data.merges = {"q z", "qz q"};  // neither "qz" nor "qzq" is a token
  const Tokenizer tokenizer = make(std::move(data));
  CHECK(encode(tokenizer, "qzqz") == std::vector<Token>{'q', 'z', 'q', 'z'});
}

TEST_CASE("tokenizer: a megabyte of one letter takes no quadratic time") {
  const std::string text(1 << 20, 'a');
  for (const std::string name : {"llama-bpe", "deepseek-llm"}) {
    const Tokenizer tokenizer = make(small_bpe(name));
    CHECK(tokenizer.decode(encode(tokenizer, text)) == text);
  }
  const Tokenizer spm = make(small_spm());
  CHECK(spm.decode(encode(spm, text)) == text);
}

TEST_CASE("tokenizer: broken vocabularies are refused by name") {
  const auto changed = [](TokenizerData data, const std::function<void(TokenizerData&)>& change) {
    change(data);
    return data;
  };
  const TokenizerData bpe = small_bpe("gpt-2"), spm = small_spm();
  check_refused(changed(bpe, [](auto& d) { d.model = "bert"; }), {"tokenizer.ggml.model", "'bert'", "gpt2, llama"});
  check_refused(changed(bpe, [](auto& d) { d.pre = "klingon"; }), {"tokenizer.ggml.pre", "'klingon'", "qwen2"});
  check_refused(changed(bpe, [](auto& d) { d.tokens.clear(), d.types.clear(); }), {"tokenizer.ggml.tokens", "found 0"});
  check_refused(changed(bpe, [](auto& d) { d.types.pop_back(); }), {"tokenizer.ggml.token_type", "wanted 1", "found 1"});
  check_refused(changed(bpe, [](auto& d) { d.tokens[300] = d.tokens[7]; }), {"tokens 7 and 300", "same"});
  check_refused(changed(bpe, [](auto& d) { d.merges[5] = "zz yy"; }), {"tokenizer.ggml.merges[5]", "'zz'"});
  check_refused(changed(bpe, [](auto& d) { d.merges[5] = "zz"; }), {"tokenizer.ggml.merges[5]", "left right"});
  check_refused(changed(bpe, [](auto& d) { d.merges[5] = ""; }), {"tokenizer.ggml.merges[5]", "left right"});
  check_refused(changed(bpe, [](auto& d) { d.bos = 99999; }), {"tokenizer.ggml.bos_token_id", "99999", "outside"});
  check_refused(changed(bpe, [](auto& d) { d.eos = -7; }), {"tokenizer.ggml.eos_token_id", "-7"});
  check_refused(changed(bpe, [](auto& d) { d.bos = kNoToken, d.add_bos = true; }), {"add_bos_token", "bos_token_id"});
  check_refused(changed(spm, [](auto& d) { d.scores.pop_back(); }), {"tokenizer.ggml.scores", "wanted 1979", "found 1978"});
  check_refused(changed(spm, [](auto& d) { d.scores.clear(); }), {"tokenizer.ggml.scores", "found 0"});
  check_refused(changed(spm, [](auto& d) { d.scores[9] = std::nanf(""); }), {"tokenizer.ggml.scores[9]", "NaN"});
}

TEST_CASE("tokenizer: a missing byte token is an error only for text that needs it") {
  TokenizerData bpe = small_bpe("gpt-2");
  bpe.merges.clear();
  bpe.tokens['Q'] = "nothing", bpe.tokens[0x16] = "nothing else";
  const Tokenizer tokenizer = make(std::move(bpe));
  CHECK(encode(tokenizer, "A").size() == 1);
  const auto failed = tokenizer.encode("AQ");
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.status().message().find("byte 81") != std::string::npos);
  CHECK(encode(tokenizer, "A\x16") == std::vector<Token>{'A'});  // published vocabularies lack such bytes: left out

  TokenizerData spm = small_spm();
  spm.tokens[3 + 0xE2] = "nothing";
  const Tokenizer with_unk = make(TokenizerData(spm));
  CHECK(encode(with_unk, "\xE2\x98\x83").at(1) == with_unk.unk());
  spm.unk = kNoToken;
  CHECK_FALSE(make(std::move(spm)).encode("\xE2\x98\x83").ok());
}

TEST_CASE("tokenizer: a vocabulary without types, or with empty texts, works") {
  TokenizerData data = small_bpe("gpt-2");
  data.types.clear();
  test::add_token(data, "", TokenKind::kNormal);
  test::add_token(data, "", TokenKind::kNormal);
  data.types.clear();
  const Tokenizer tokenizer = make(std::move(data));
  CHECK(tokenizer.decode(encode(tokenizer, "Hello world")) == "Hello world");
  CHECK(tokenizer.is_control(tokenizer.find("<|im_end|>")));  // by its name
  CHECK(tokenizer.find("") == kNoToken);
}

TEST_CASE("tokenizer data: keys and their defaults are those of llama.cpp") {
  const TokenizerData small = small_spm();
  Metadata metadata("model.gguf");
  metadata.set("tokenizer.ggml.model", "llama");
  metadata.set("tokenizer.ggml.tokens", small.tokens);
  metadata.set("tokenizer.ggml.scores", small.scores);
  metadata.set("tokenizer.ggml.token_type", small.types);
  const auto spm = TokenizerData::from_metadata(metadata);
  REQUIRE_MESSAGE(spm.ok(), spm.status().message());
  CHECK(spm->add_bos);
  CHECK(spm->add_space_prefix);
  CHECK(spm->bos == 1);
  CHECK(spm->eos == 2);
  CHECK(spm->unk == 0);

  metadata.set("tokenizer.ggml.add_bos_token", false);
  metadata.set("tokenizer.ggml.add_space_prefix", false);
  metadata.set("tokenizer.ggml.bos_token_id", uint32_t{7});
  metadata.set("tokenizer.ggml.padding_token_id", std::numeric_limits<uint32_t>::max());
  metadata.set("tokenizer.chat_template", "{{ x }}");
  const auto changed = TokenizerData::from_metadata(metadata);
  REQUIRE(changed.ok());
  CHECK_FALSE(changed->add_bos);
  CHECK_FALSE(changed->add_space_prefix);
  CHECK(changed->bos == 7);
  CHECK(changed->pad == kNoToken);
  CHECK(make(*changed).chat_template() == "{{ x }}");

  metadata.set("tokenizer.ggml.eos_token_id", int64_t{1} << 40);
  CHECK_FALSE(TokenizerData::from_metadata(metadata).ok());
}

TEST_CASE("tokenizer data: byte-level BPE adds bos only where its pre-tokeniser says so") {
  const TokenizerData small = small_bpe("gpt-2");
  Metadata metadata("model.gguf");
  metadata.set("tokenizer.ggml.model", "gpt2");
  metadata.set("tokenizer.ggml.tokens", small.tokens);
  metadata.set("tokenizer.ggml.merges", small.merges);
  metadata.set("tokenizer.ggml.bos_token_id", uint32_t{5});
  for (const auto& [pre, add_bos] : {std::pair("gpt-2", false), {"llama-bpe", true}, {"qwen2", false}}) {
    metadata.set("tokenizer.ggml.pre", pre);
    const auto data = TokenizerData::from_metadata(metadata);
    REQUIRE(data.ok());
    CHECK(data->add_bos == add_bos);
    CHECK(data->eos == kNoToken);
    CHECK(Tokenizer::create(*data).ok());
  }
}

TEST_CASE("tokenizer data: a missing key or one of another type is named") {
  Metadata metadata("model.gguf");
  const auto missing = TokenizerData::from_metadata(metadata);
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.status().message().find("tokenizer.ggml.model") != std::string::npos);
  metadata.set("tokenizer.ggml.model", "gpt2");
  metadata.set("tokenizer.ggml.tokens", uint32_t{3});
  const auto wrong = TokenizerData::from_metadata(metadata);
  REQUIRE_FALSE(wrong.ok());
  CHECK(wrong.status().message().find("tokenizer.ggml.tokens") != std::string::npos);
}

}  // namespace moe

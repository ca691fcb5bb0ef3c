// One row a pre-tokeniser. The expressions are facts about published models: they are those of the models' tokenizer.json
// files, in the form and under the names that llama.cpp gives them (src/llama-vocab.cpp), with these exceptions:
// - gpt-4o has the published expression; llama.cpp approximates its letter cases and drops combining marks, which splits
//   Hindi, Thai or Khmer words where the models were not trained to see a split.
// - ranges that hold blanks above ASCII (U+3000, U+2029) leave them out here, because llama.cpp's matcher takes them for
//   plain blanks before the range can see them.
#include "models/tokenizer/pretokenizer.h"

#include <algorithm>
#include <array>

namespace moe {
namespace {

constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))";

// Building blocks of the GPT-4 family of expressions; they differ in how they group digits and what may follow punctuation.
#define MOE_CONTRACTION R"('(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL]))"
#define MOE_WORD R"([^\r\n\p{L}\p{N}]?\p{L}+)"
#define MOE_PUNCTUATION R"( ?[^\s\p{L}\p{N}]+[\r\n]*)"
#define MOE_BLANKS R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
#define MOE_UPPER_WORD R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
#define MOE_LOWER_WORD R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"

constexpr std::string_view kLlama3 = MOE_CONTRACTION "|" MOE_WORD R"(|\p{N}{1,3}|)" MOE_PUNCTUATION "|" MOE_BLANKS;
constexpr std::string_view kQwen2 = MOE_CONTRACTION "|" MOE_WORD R"(|\p{N}|)" MOE_PUNCTUATION "|" MOE_BLANKS;
constexpr std::string_view kGpt4o = MOE_LOWER_WORD "(?:" MOE_CONTRACTION ")?|" MOE_UPPER_WORD "(?:" MOE_CONTRACTION
                                                   ")?"
                                                   R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" MOE_BLANKS;
constexpr std::string_view kTekken = MOE_LOWER_WORD "|" MOE_UPPER_WORD R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)" MOE_BLANKS;

#undef MOE_CONTRACTION
#undef MOE_WORD
#undef MOE_PUNCTUATION
#undef MOE_BLANKS
#undef MOE_UPPER_WORD
#undef MOE_LOWER_WORD

constexpr std::string_view kNewline = R"([\r\n])";
// "[一-龥ࠀ-一가-퟿]+" (U+0800 to U+4E00 is as published), without the blanks inside.
constexpr std::string_view kCjkAndHangul =
    "[一-龥\u0800-\u167F\u1681-\u1FFF\u200B-\u2027\u202A-\u202E\u2030-\u205E\u2060-\u2FFF\u3001-一가-\uD7FF]+";
constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kThreeDigits = "[0-9][0-9][0-9]";

// Letters of the scripts with two cases, as of the Unicode version that deepseek-llm was built with.
constexpr std::string_view kDeepseekLetters =
    R"(\s?[)"
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-"
    "ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-"
    "ώ"
    "ᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-"
    "ꝯꝱ-"
    "ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-"
    "𐑏"
    "𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
    "]+";
constexpr std::string_view kDeepseekPunctuation = R"(\s?[!-/:-~！-／：-～‘-‟、-。]+)";
constexpr std::string_view kDeepseekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr size_t kMaxStages = 6, kMaxNames = 6;

struct Row {
  std::array<std::string_view, kMaxNames> names;
  std::array<std::string_view, kMaxStages> patterns;  // applied one after the other, each inside the pieces of the last
  PretokenizerTraits traits = {false, false};
};

constexpr Row kRows[] = {
    {{"default"}, {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)", kThreeDigits}},
    {{"gpt-2", "phi-2", "exaone4", "mellum", "gigachat", "a.x-4.0"}, {kGpt2}},
    {{"olmo", "mpt", "jais", "trillion", "granite-docling"}, {kGpt2}},
    {{"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"}, {kLlama3}, {true, true}},
    {{"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, {kLlama3}},
    {{"qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open"}, {kQwen2}},
    {{"gpt-4o", "llama4", "kanana2", "minimax-m2"}, {kGpt4o}},
    {{"tekken"}, {kTekken}, {true, true}},
    {{"deepseek-llm"}, {kNewline, kDeepseekLetters, kDeepseekPunctuation, R"(\s+$)", kCjkAndHangul, R"(\p{N}+)"}},
    {{"deepseek-coder"}, {kNewline, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kCjkAndHangul, kDigit}},
    {{"deepseek-v3", "hunyuan-dense", "joyai-llm"}, {R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+", kDeepseekV3}},
    {{"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone"}, {kDigit, kGpt2}},
    {{"falcon"}, {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2, kThreeDigits}},
};

const Row* find_row(std::string_view name) {
  if (name.empty()) name = "default";
  for (const Row& row : kRows) {
    if (std::find(row.names.begin(), row.names.end(), name) != row.names.end()) return &row;
  }
  return nullptr;
}

std::string known_names() {
  std::string list;
  for (const Row& row : kRows) {
    for (const std::string_view name : row.names) {
      if (!name.empty()) list.append(list.empty() ? "" : ", ").append(name);
    }
  }
  return list;
}

}  // namespace

Result<Pretokenizer> Pretokenizer::create(std::string_view name) {
  const Row* row = find_row(name);
  if (row == nullptr) {
    return Status::NotFound("tokenizer.ggml.pre: unknown pre-tokeniser '" + std::string(name) + "'; known: " + known_names());
  }
  Pretokenizer result;
  result.traits_ = row->traits;
  for (const std::string_view pattern : pretokenizer_patterns(name)) {
    MOE_ASSIGN(SplitRegex stage, SplitRegex::compile(pattern));
    result.stages_.push_back(std::move(stage));
  }
  return result;
}

std::vector<size_t> Pretokenizer::split(std::string_view text) const {
  std::vector<size_t> ends;
  if (!text.empty()) ends.push_back(text.size());
  for (const SplitRegex& stage : stages_) stage.split(text, ends);
  return ends;
}

PretokenizerTraits pretokenizer_traits(std::string_view name) {
  const Row* row = find_row(name);
  return row == nullptr ? PretokenizerTraits{false, false} : row->traits;
}

std::span<const std::string_view> pretokenizer_patterns(std::string_view name) {
  const Row* row = find_row(name);
  if (row == nullptr) return {};
  const auto end = std::find(row->patterns.begin(), row->patterns.end(), std::string_view());
  return {row->patterns.begin(), end};
}

}  // namespace moe

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
    "A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF\u0370-\u0373\u0376"
    "\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F"
    "\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77"
    "\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D"
    "\u1F80-\u1FB4\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4"
    "\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134\u2139"
    "\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D"
    "\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A"
    "\uFF41-\uFF5A\U00010400-\U0001044F\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2"
    "\U00010CC0-\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943"
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

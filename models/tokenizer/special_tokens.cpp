#include "models/tokenizer/special_tokens.h"

namespace moe {
namespace {

// The names that llama.cpp (src/llama-vocab.cpp) goes by, those of the models this project runs first.
constexpr WellKnownToken kTokens[] = {
    {"<|eot_id|>", true, true},       // Llama 3
    {"<|im_end|>", true, true},       // ChatML
    {"<|end|>", true, true},          // Phi 3, Harmony
    {"<end_of_turn>", true, true},    // Gemma
    {"<|endoftext|>", true, true},    // GPT-2, OLMoE, Qwen
    {"<|end_of_text|>", true, true},  // Granite
    {"<EOT>", true, true},
    {"_<EOT>", true, true},
    {"[EOT]", true, true},                  // Kimi
    {"<｜end▁of▁sentence｜>", true, true},  // DeepSeek
    {"<end_of_utterance>", true, true},
    {"<|eom_id|>", true, false, true},  // Llama 3.1
    {"<|return|>", true},               // Harmony
    {"<|call|>", true},                 // Harmony
    {"<|flush|>", true},
    {"<|calls|>", true},
    {"</s>", true},  // SentencePiece
    {"[EOS]", true},
    {"<eos>", true},
    {"<|fim_pad|>", true},  // fill-in-the-middle: the end of what belongs in the hole
    {"<fim-pad>", true},
    {"<fim_pad>", true},
    {"<|fim_repo|>", true},
    {"<|repo_name|>", true},
    {"<fim-repo>", true},
    {"<reponame>", true},
    {"<|file_sep|>", true},
    {"<|start|>", false, false, false, true},  // Harmony's channels: without them thoughts and answer run together
    {"<|channel|>", false, false, false, true},
    {"<|message|>", false, false, false, true},
    {"<|constrain|>", false, false, false, true},
};

template <class Predicate>
Token find_first(const Vocabulary& vocabulary, Predicate wanted) {
  for (const WellKnownToken& row : kTokens) {
    const Token token = wanted(row) ? vocabulary.find(row.text) : kNoToken;
    if (token != kNoToken) return token;
  }
  return kNoToken;
}

}  // namespace

std::span<const WellKnownToken> well_known_tokens() { return kTokens; }

Token find_end_of_turn(const Vocabulary& vocabulary) {
  return find_first(vocabulary, [](const WellKnownToken& row) { return row.ends_turn; });
}

Token find_end_of_message(const Vocabulary& vocabulary) {
  return find_first(vocabulary, [](const WellKnownToken& row) { return row.ends_message; });
}

std::vector<bool> end_of_generation_tokens(const Vocabulary& vocabulary, std::span<const Token> ends) {
  std::vector<bool> result(static_cast<size_t>(vocabulary.size()));
  for (const WellKnownToken& row : kTokens) {
    const Token token = row.ends_generation ? vocabulary.find(row.text) : kNoToken;
    if (token != kNoToken) result[static_cast<size_t>(token)] = true;
  }
  for (const Token token : ends) {
    if (token != kNoToken) result[static_cast<size_t>(token)] = true;
  }
  // In Harmony a turn is several messages: <|end|> closes one, <|return|> and <|call|> close the turn.
  const Token end = vocabulary.find("<|end|>");
  const bool harmony = vocabulary.find("<|return|>") != kNoToken && vocabulary.find("<|call|>") != kNoToken;
  if (harmony && end != kNoToken) result[static_cast<size_t>(end)] = false;
  return result;
}

}  // namespace moe

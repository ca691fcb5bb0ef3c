// Chat prompts. Model files carry a Jinja program that formats a conversation; instead of interpreting Jinja we recognise the
// well-known formats by fragments of the program's text (as llama.cpp's llm_chat_detect_template does) and write them from a
// table. What the programs do beyond that (tools, dates, default system prompts other than Harmony's) is not reproduced.
//
//   MOE_ASSIGN(ChatTemplate t, detect_chat_template(tokenizer.chat_template()));
//   std::string prompt = format_chat(t, messages, true, tokenizer.piece(tokenizer.eos(), true));
//   tokenizer.encode(prompt, {.add_special = true, .parse_special = true});   // add_special gives the bos: none is written
//   here
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/status.h"

namespace moe {

enum class ChatTemplate : uint8_t {
  kChatml,
  kLlama2,          // system text inside the first turn, unmarked (Mixtral 8x7B Instruct v0.1)
  kLlama2Sys,       // <<SYS>> ... <</SYS>>
  kLlama2SysBos,    // and every later turn opens with <s>
  kLlama2SysStrip,  // and contents are trimmed
  kLlama3,
  kLlama4,
  kMistralV1,
  kMistralV3,
  kMistralV3Tekken,
  kMistralV7,
  kMistralV7Tekken,
  kGranite,
  kHarmony,        // gpt-oss
  kDeepseekCoder,  // ### Instruction:
  kDeepseek2,
  kDeepseek3,
  kTulu,  // OLMoE and OLMo 2 Instruct
  kZephyr,
  kPhi3,
  kPhi4,
  kVicuna,
};

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"; others are written as user turns under their own name where possible
  std::string content;
};

// From the text of tokenizer.chat_template. NotFound when it is none of ours.
Result<ChatTemplate> detect_chat_template(std::string_view jinja_text);
// From a name as --chat-template takes it. NotFound, listing the names.
Result<ChatTemplate> parse_chat_template_name(std::string_view name);
std::string_view chat_template_name(ChatTemplate chat_template);
std::span<const std::string_view> chat_template_names();

// The conversation as one prompt, without bos. `add_generation_prompt` opens the assistant's turn. `eos` is the text of the
// model's end token, "" for the template's usual one.
std::string format_chat(ChatTemplate chat_template, std::span<const ChatMessage> messages, bool add_generation_prompt,
                        std::string_view eos = {});

// Texts at which generation ends, for models whose vocabulary has no token for them.
std::span<const std::string_view> chat_stop_strings(ChatTemplate chat_template);

// The part of a generated turn that belongs in the history: without <think>...</think> and, for Harmony, only the final
// channel. Models are trained to see earlier turns so.
std::string chat_history_text(ChatTemplate chat_template, std::string_view generated);

}  // namespace moe

#include "models/tokenizer/chat_template.h"

#include <algorithm>
#include <array>

namespace moe {
namespace {

// How one role's message is written. "{role}" stands for the role, "{eos}" for the end token.
struct RoleFormat {
  std::string_view before, after;
  bool trim = false;
};

struct ChatFormat {
  ChatTemplate id;
  std::string_view name;
  RoleFormat system, user, assistant;
  std::string_view generation = {};  // opens the assistant's turn
  std::string_view eos = "</s>";     // where the caller gives none
  std::string_view first_turn = {};  // before the first message; a turn lasts until the assistant has spoken
  std::string_view next_turn = {};   // before the first message of every later turn
  std::string_view prologue = {};    // before everything
  std::array<std::string_view, 3> stops = {};
};

constexpr std::string_view kDeepseekEos = "<｜end▁of▁sentence｜>";

// Sources: llama.cpp, src/llama-chat.cpp, and the Jinja programs of the models' files.
constexpr ChatFormat kFormats[] = {
    {.id = ChatTemplate::kChatml,
     .name = "chatml",
     .system = {"<|im_start|>{role}\n", "<|im_end|>\n"},
     .user = {"<|im_start|>{role}\n", "<|im_end|>\n"},
     .assistant = {"<|im_start|>assistant\n", "<|im_end|>\n"},
     .generation = "<|im_start|>assistant\n",
     .stops = {"<|im_end|>", "<|im_start|>"}},
    {.id = ChatTemplate::kLlama2,
     .name = "llama2",
     .system = {"", "\n"},
     .user = {"", " [/INST]"},
     .assistant = {"", "{eos}"},
     .first_turn = "[INST] ",
     .next_turn = "[INST] ",
     .stops = {"</s>", "[INST]"}},
    {.id = ChatTemplate::kLlama2Sys,
     .name = "llama2-sys",
     .system = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
     .user = {"", " [/INST]"},
     .assistant = {"", "{eos}"},
     .first_turn = "[INST] ",
     .next_turn = "[INST] ",
     .stops = {"</s>", "[INST]"}},
    {.id = ChatTemplate::kLlama2SysBos,
     .name = "llama2-sys-bos",
     .system = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
     .user = {"", " [/INST]"},
     .assistant = {"", "{eos}"},
     .first_turn = "[INST] ",
     .next_turn = "<s>[INST] ",
     .stops = {"</s>", "[INST]"}},
    {.id = ChatTemplate::kLlama2SysStrip,
     .name = "llama2-sys-strip",
     .system = {"<<SYS>>\n", "\n<</SYS>>\n\n", true},
     .user = {"", " [/INST]", true},
     .assistant = {"", "{eos}", true},
     .first_turn = "[INST] ",
     .next_turn = "[INST] ",
     .stops = {"</s>", "[INST]"}},
    {.id = ChatTemplate::kLlama3,
     .name = "llama3",
     .system = {"<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", true},
     .user = {"<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", true},
     .assistant = {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", true},
     .generation = "<|start_header_id|>assistant<|end_header_id|>\n\n",
     .stops = {"<|eot_id|>", "<|eom_id|>", "<|start_header_id|>"}},
    {.id = ChatTemplate::kLlama4,
     .name = "llama4",
     .system = {"<|header_start|>{role}<|header_end|>\n\n", "<|eot|>", true},
     .user = {"<|header_start|>{role}<|header_end|>\n\n", "<|eot|>", true},
     .assistant = {"<|header_start|>assistant<|header_end|>\n\n", "<|eot|>", true},
     .generation = "<|header_start|>assistant<|header_end|>\n\n",
     .stops = {"<|eot|>", "<|eom|>", "<|header_start|>"}},
    {.id = ChatTemplate::kMistralV1,
     .name = "mistral-v1",
     .system = {"", "\n\n"},
     .user = {"", " [/INST]"},
     .assistant = {" ", "{eos}"},
     .first_turn = " [INST] ",
     .next_turn = " [INST] ",
     .stops = {"</s>", "[INST]"}},
    {.id = ChatTemplate::kMistralV3,
     .name = "mistral-v3",
     .system = {"", "\n\n"},
     .user = {"", "[/INST]"},
     .assistant = {" ", "{eos}", true},
     .first_turn = "[INST] ",
     .next_turn = "[INST] ",
     .stops = {"</s>", "[INST]"}},
    {.id = ChatTemplate::kMistralV3Tekken,
     .name = "mistral-v3-tekken",
     .system = {"", "\n\n"},
     .user = {"", "[/INST]"},
     .assistant = {"", "{eos}"},
     .first_turn = "[INST]",
     .next_turn = "[INST]",
     .stops = {"</s>", "[INST]"}},
    {.id = ChatTemplate::kMistralV7,
     .name = "mistral-v7",
     .system = {"[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]"},
     .user = {"[INST] ", "[/INST]"},
     .assistant = {" ", "{eos}"},
     .stops = {"</s>", "[INST]"}},
    {.id = ChatTemplate::kMistralV7Tekken,
     .name = "mistral-v7-tekken",
     .system = {"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"},
     .user = {"[INST]", "[/INST]"},
     .assistant = {"", "{eos}"},
     .stops = {"</s>", "[INST]"}},
    {.id = ChatTemplate::kGranite,
     .name = "granite",
     .system = {"<|start_of_role|>{role}<|end_of_role|>", "<|end_of_text|>\n"},
     .user = {"<|start_of_role|>{role}<|end_of_role|>", "<|end_of_text|>\n"},
     .assistant = {"<|start_of_role|>assistant<|end_of_role|>", "<|end_of_text|>\n"},
     .generation = "<|start_of_role|>assistant<|end_of_role|>",
     .stops = {"<|end_of_text|>", "<|start_of_role|>"}},
    {.id = ChatTemplate::kHarmony,
     .name = "harmony",
     .system = {"<|start|>developer<|message|># Instructions\n\n", "\n\n<|end|>"},
     .user = {"<|start|>{role}<|message|>", "<|end|>"},
     .assistant = {"<|start|>assistant<|channel|>final<|message|>", "<|end|>"},
     .generation = "<|start|>assistant",
     .prologue = "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
                 "Knowledge cutoff: 2024-06\n\nReasoning: medium\n\n"
                 "# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>",
     .stops = {"<|return|>", "<|call|>"}},
    {.id = ChatTemplate::kDeepseekCoder,
     .name = "deepseek",
     .system = {"", ""},
     .user = {"### Instruction:\n", "\n"},
     .assistant = {"### Response:\n", "\n<|EOT|>\n"},
     .generation = "### Response:\n",
     .stops = {"<|EOT|>", "### Instruction:"}},
    {.id = ChatTemplate::kDeepseek2,
     .name = "deepseek2",
     .system = {"", "\n\n"},
     .user = {"User: ", "\n\n"},
     .assistant = {"Assistant: ", "{eos}"},
     .generation = "Assistant:",
     .eos = kDeepseekEos,
     .stops = {kDeepseekEos, "\nUser: "}},
    {.id = ChatTemplate::kDeepseek3,
     .name = "deepseek3",
     .system = {"", ""},
     .user = {"<｜User｜>", ""},
     .assistant = {"<｜Assistant｜>", "{eos}"},
     .generation = "<｜Assistant｜>",
     .eos = kDeepseekEos,
     .stops = {kDeepseekEos, "<｜User｜>"}},
    {.id = ChatTemplate::kTulu,
     .name = "tulu",
     .system = {"<|system|>\n", "\n"},
     .user = {"<|user|>\n", "\n"},
     .assistant = {"<|assistant|>\n", "{eos}\n"},
     .generation = "<|assistant|>\n",
     .eos = "<|endoftext|>",
     .stops = {"<|endoftext|>", "<|user|>"}},
    {.id = ChatTemplate::kZephyr,
     .name = "zephyr",
     .system = {"<|{role}|>\n", "{eos}\n"},
     .user = {"<|{role}|>\n", "{eos}\n"},
     .assistant = {"<|assistant|>\n", "{eos}\n"},
     .generation = "<|assistant|>\n",
     .eos = "<|endoftext|>",
     .stops = {"<|endoftext|>", "</s>", "<|user|>"}},
    {.id = ChatTemplate::kPhi3,
     .name = "phi3",
     .system = {"<|{role}|>\n", "<|end|>\n"},
     .user = {"<|{role}|>\n", "<|end|>\n"},
     .assistant = {"<|assistant|>\n", "<|end|>\n"},
     .generation = "<|assistant|>\n",
     .stops = {"<|end|>", "<|user|>"}},
    {.id = ChatTemplate::kPhi4,
     .name = "phi4",
     .system = {"<|im_start|>{role}<|im_sep|>", "<|im_end|>"},
     .user = {"<|im_start|>{role}<|im_sep|>", "<|im_end|>"},
     .assistant = {"<|im_start|>assistant<|im_sep|>", "<|im_end|>"},
     .generation = "<|im_start|>assistant<|im_sep|>",
     .stops = {"<|im_end|>", "<|im_start|>"}},
    {.id = ChatTemplate::kVicuna,
     .name = "vicuna",
     .system = {"", "\n\n"},
     .user = {"USER: ", "\n"},
     .assistant = {"ASSISTANT: ", "{eos}\n"},
     .generation = "ASSISTANT:",
     .stops = {"</s>", "USER:"}},
};

constexpr size_t kFormatCount = std::size(kFormats);

constexpr auto kNames = [] {
  std::array<std::string_view, kFormatCount> names;
  for (size_t i = 0; i < kFormatCount; ++i) names[i] = kFormats[i].name;
  return names;
}();

// kFormats is in the order of the enumeration.
constexpr bool kInOrder = [] {
  for (size_t i = 0; i < kFormatCount; ++i) {
    if (static_cast<size_t>(kFormats[i].id) != i) return false;
  }
  return kFormatCount == static_cast<size_t>(ChatTemplate::kVicuna) + 1;
}();
static_assert(kInOrder);

const ChatFormat& format_of(ChatTemplate t) { return kFormats[static_cast<size_t>(t)]; }

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n\f\v";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

void append_pattern(std::string_view pattern, std::string_view role, std::string_view eos, std::string& out) {
  while (!pattern.empty()) {
    const size_t brace = std::min(pattern.find('{'), pattern.size());
    out.append(pattern.substr(0, brace));
    pattern.remove_prefix(brace);
    if (pattern.starts_with("{role}")) {
      out.append(role);
      pattern.remove_prefix(6);
    } else if (pattern.starts_with("{eos}")) {
      out.append(eos);
      pattern.remove_prefix(5);
    } else if (!pattern.empty()) {
      out.push_back(pattern[0]);
      pattern.remove_prefix(1);
    }
  }
}

const RoleFormat& role_format(const ChatFormat& format, std::string_view role) {
  if (role == "system" || role == "developer") return format.system;
  return role == "assistant" ? format.assistant : format.user;
}

}  // namespace

Result<ChatTemplate> parse_chat_template_name(std::string_view name) {
  std::string known;
  for (const ChatFormat& format : kFormats) {
    if (format.name == name) return format.id;
    known.append(known.empty() ? "" : ", ").append(format.name);
  }
  if (name == "gpt-oss") return ChatTemplate::kHarmony;
  return Status::NotFound("unknown chat template '" + std::string(name) + "'; known: " + known);
}

std::string_view chat_template_name(ChatTemplate t) { return format_of(t).name; }
std::span<const std::string_view> chat_template_names() { return kNames; }

std::string format_chat(ChatTemplate chat_template, std::span<const ChatMessage> messages, bool add_generation_prompt,
                        std::string_view eos) {
  const ChatFormat& format = format_of(chat_template);
  if (eos.empty()) eos = format.eos;
  std::string out(format.prologue);
  std::string_view open_turn = format.first_turn;  // written before the next message that opens a turn
  bool in_turn = false;
  for (const ChatMessage& message : messages) {
    if (!in_turn) out.append(open_turn);
    open_turn = format.next_turn;
    in_turn = message.role != "assistant";
    const RoleFormat& role = role_format(format, message.role);
    append_pattern(role.before, message.role, eos, out);
    out.append(role.trim ? trimmed(message.content) : std::string_view(message.content));
    append_pattern(role.after, message.role, eos, out);
  }
  if (add_generation_prompt) out.append(format.generation);
  return out;
}

std::span<const std::string_view> chat_stop_strings(ChatTemplate t) {
  const auto& stops = format_of(t).stops;
  size_t n = 0;
  while (n < stops.size() && !stops[n].empty()) ++n;
  return {stops.data(), n};
}

std::string chat_history_text(ChatTemplate chat_template, std::string_view generated) {
  if (chat_template == ChatTemplate::kHarmony) {
    constexpr std::string_view kFinal = "<|channel|>final<|message|>";
    const size_t final_channel = generated.rfind(kFinal);
    if (final_channel == std::string_view::npos) return {};
    generated.remove_prefix(final_channel + kFinal.size());
    for (const std::string_view end : {"<|return|>", "<|end|>"}) generated = generated.substr(0, generated.find(end));
    return std::string(generated);
  }
  constexpr std::string_view kThought = "</think>";
  const size_t thought = generated.rfind(kThought);
  if (thought == std::string_view::npos) return std::string(generated);
  generated.remove_prefix(thought + kThought.size());
  return std::string(trimmed(generated));
}

}  // namespace moe

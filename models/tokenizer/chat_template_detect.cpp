// Recognising a chat format by what its Jinja program mentions: the first row all of whose fragments occur, and whose
// excluded one does not, wins. The order and most fragments are those of llama.cpp (src/llama-chat.cpp,
// llm_chat_detect_template); Tulu and the unspaced Mistral V7 are told apart here and not there.
#include <algorithm>
#include <array>

#include "models/tokenizer/chat_template.h"

namespace moe {
namespace {

struct Rule {
  ChatTemplate id;
  std::array<std::string_view, 3> wanted;
  std::string_view excluded = {};

  bool matches(std::string_view text) const {
    const auto occurs = [text](std::string_view fragment) { return text.find(fragment) != std::string_view::npos; };
    return std::all_of(wanted.begin(), wanted.end(), occurs) && (excluded.empty() || !occurs(excluded));
  }
};

constexpr Rule kRules[] = {
    {ChatTemplate::kPhi4, {"<|im_start|>", "<|im_sep|>"}},
    {ChatTemplate::kChatml, {"<|im_start|>"}, "<end_of_utterance>"},
    {ChatTemplate::kMistralV7, {"[INST]", "[SYSTEM_PROMPT] "}},
    {ChatTemplate::kMistralV7Tekken, {"[INST]", "[SYSTEM_PROMPT]"}},
    {ChatTemplate::kMistralV1, {"' [INST] ' + system_message"}},
    {ChatTemplate::kMistralV1, {"[AVAILABLE_TOOLS]", " [INST]"}},
    {ChatTemplate::kMistralV3Tekken, {"[AVAILABLE_TOOLS]", "\"[INST]\""}},
    {ChatTemplate::kMistralV3, {"[AVAILABLE_TOOLS]", "[INST]"}},
    {ChatTemplate::kLlama2SysStrip, {"[INST]", "content.strip()"}},
    {ChatTemplate::kLlama2SysBos, {"[INST]", "bos_token + '[INST]"}},
    {ChatTemplate::kLlama2Sys, {"[INST]", "<<SYS>>"}},
    {ChatTemplate::kLlama2, {"[INST]"}},
    {ChatTemplate::kHarmony, {"<|start|>", "<|channel|>", "<|message|>"}},
    {ChatTemplate::kPhi3, {"<|assistant|>", "<|end|>"}},
    {ChatTemplate::kZephyr, {"'<|user|>\n' + message['content'] + eos_token"}},
    {ChatTemplate::kZephyr, {"'<|user|>\\n' + message['content'] + eos_token"}},
    {ChatTemplate::kTulu, {"<|assistant|>", "<|user|>", "eos_token"}},
    {ChatTemplate::kZephyr, {"<|user|>", "<|endoftext|>"}},
    {ChatTemplate::kVicuna, {"USER: ", "ASSISTANT: "}},
    {ChatTemplate::kDeepseekCoder, {"### Instruction:", "<|EOT|>"}},
    {ChatTemplate::kLlama3, {"<|start_header_id|>", "<|end_header_id|>"}},
    {ChatTemplate::kDeepseek2, {"'Assistant: ' + message['content'] + eos_token"}},
    {ChatTemplate::kDeepseek3, {"<｜Assistant｜>", "<｜User｜>"}},
    {ChatTemplate::kGranite, {"<|start_of_role|>"}},
    {ChatTemplate::kLlama4, {"<|header_start|>", "<|header_end|>"}},
};

}  // namespace

Result<ChatTemplate> detect_chat_template(std::string_view jinja_text) {
  for (const Rule& rule : kRules) {
    if (rule.matches(jinja_text)) return rule.id;
  }
  if (jinja_text.empty()) return Status::NotFound("tokenizer.chat_template: the file has none");
  return Status::NotFound("tokenizer.chat_template: not a format that is known here, it begins '" +
                          std::string(jinja_text.substr(0, 40)) + "'");
}

}  // namespace moe

#include "models/tokenizer/chat_template.h"

#include <doctest/doctest.h>

#include <set>
#include <vector>

namespace moe {
namespace {

// The conversation and, below, the expected prompts of llama.cpp's tests/test-chat-template.cpp.
const std::vector<ChatMessage> kChat = {
    {"system", "You are a helpful assistant"},
    {"user", "Hello"},
    {"assistant", "Hi there"},
    {"user", "Who are you"},
    {"assistant", "   I am an assistant   "},
    {"user", "Another question"},
};

struct Expected {
  ChatTemplate id;
  std::string_view prompt;
};

const Expected kExpected[] = {
    {ChatTemplate::kChatml,
     "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi "
     "there<|im_end|>\n<|im_start|>user\nWho are you<|im_end|>\n<|im_start|>assistant\n   I am an assistant   "
     "<|im_end|>\n<|im_start|>user\nAnother question<|im_end|>\n<|im_start|>assistant\n"},
    {ChatTemplate::kLlama2,
     "[INST] You are a helpful assistant\nHello [/INST]Hi there</s>[INST] Who are you [/INST]   I am an assistant   "
     "</s>[INST] Another question [/INST]"},
    {ChatTemplate::kLlama2SysBos,
     "[INST] <<SYS>>\nYou are a helpful assistant\n<</SYS>>\n\nHello [/INST]Hi there</s><s>[INST] Who are you [/INST]   I am "
     "an assistant   </s><s>[INST] Another question [/INST]"},
    {ChatTemplate::kLlama2SysStrip,
     "[INST] <<SYS>>\nYou are a helpful assistant\n<</SYS>>\n\nHello [/INST]Hi there</s>[INST] Who are you [/INST]I am an "
     "assistant</s>[INST] Another question [/INST]"},
    {ChatTemplate::kLlama3,
     "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful "
     "assistant<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_"
     "id|>\n\nHi there<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWho are "
     "you<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nI am an "
     "assistant<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnother "
     "question<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
    {ChatTemplate::kMistralV1,
     " [INST] You are a helpful assistant\n\nHello [/INST] Hi there</s> [INST] Who are you [/INST]    I am an assistant   "
     "</s> [INST] Another question [/INST]"},
    {ChatTemplate::kMistralV3,
     "[INST] You are a helpful assistant\n\nHello[/INST] Hi there</s>[INST] Who are you[/INST] I am an assistant</s>[INST] "
     "Another question[/INST]"},
    {ChatTemplate::kMistralV3Tekken,
     "[INST]You are a helpful assistant\n\nHello[/INST]Hi there</s>[INST]Who are you[/INST]   I am an assistant   "
     "</s>[INST]Another question[/INST]"},
    {ChatTemplate::kMistralV7,
     "[SYSTEM_PROMPT] You are a helpful assistant[/SYSTEM_PROMPT][INST] Hello[/INST] Hi there</s>[INST] Who are you[/INST]    "
     "I am an assistant   </s>[INST] Another question[/INST]"},
    {ChatTemplate::kGranite,
     "<|start_of_role|>system<|end_of_role|>You are a helpful "
     "assistant<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Hello<|end_of_text|>\n<|start_of_role|>assistant<|end_of_"
     "role|>Hi there<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Who are "
     "you<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>   I am an assistant   "
     "<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Another "
     "question<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>"},
    {ChatTemplate::kDeepseekCoder,
     "You are a helpful assistant### Instruction:\nHello\n### Response:\nHi there\n<|EOT|>\n### Instruction:\nWho are you\n### "
     "Response:\n   I am an assistant   \n<|EOT|>\n### Instruction:\nAnother question\n### Response:\n"},
    {ChatTemplate::kDeepseek2,
     "You are a helpful assistant\n\nUser: Hello\n\nAssistant: Hi there<｜end▁of▁sentence｜>User: Who are you\n\nAssistant:    "
     "I "
     "am an assistant   <｜end▁of▁sentence｜>User: Another question\n\nAssistant:"},
    {ChatTemplate::kDeepseek3,
     "You are a helpful assistant<｜User｜>Hello<｜Assistant｜>Hi there<｜end▁of▁sentence｜><｜User｜>Who are "
     "you<｜Assistant｜>   I "
     "am an assistant   <｜end▁of▁sentence｜><｜User｜>Another question<｜Assistant｜>"},
    {ChatTemplate::kTulu,
     "<|system|>\nYou are a helpful assistant\n<|user|>\nHello\n<|assistant|>\nHi there<|endoftext|>\n<|user|>\nWho are "
     "you\n<|assistant|>\n   I am an assistant   <|endoftext|>\n<|user|>\nAnother question\n<|assistant|>\n"},
    {ChatTemplate::kPhi3,
     "<|system|>\nYou are a helpful assistant<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi there<|end|>\n<|user|>\nWho "
     "are "
     "you<|end|>\n<|assistant|>\n   I am an assistant   <|end|>\n<|user|>\nAnother question<|end|>\n<|assistant|>\n"},
    {ChatTemplate::kVicuna,
     "You are a helpful assistant\n\nUSER: Hello\nASSISTANT: Hi there</s>\nUSER: Who are you\nASSISTANT:    I am an assistant  "
     " "
     "</s>\nUSER: Another question\nASSISTANT:"},
};

}  // namespace

TEST_CASE("chat template: conversations are written as the models were trained on them") {
  for (const Expected& e : kExpected) CHECK(format_chat(e.id, kChat, true) == e.prompt);
}

TEST_CASE("chat template: Harmony has its preamble, a developer message and channels") {
  const std::string prompt = format_chat(ChatTemplate::kHarmony, std::span(kChat).first(4), true);
  CHECK(prompt.starts_with("<|start|>system<|message|>You are ChatGPT"));
  CHECK(
      prompt.ends_with("must be included for every message.<|end|>"
                       "<|start|>developer<|message|># Instructions\n\nYou are a helpful assistant\n\n<|end|>"
                       "<|start|>user<|message|>Hello<|end|>"
                       "<|start|>assistant<|channel|>final<|message|>Hi there<|end|>"
                       "<|start|>user<|message|>Who are you<|end|><|start|>assistant"));
}

TEST_CASE("chat template: Jinja programs are recognised by what they mention") {
  const struct {
    ChatTemplate id;
    std::string_view jinja;
  } cases[] = {
      {ChatTemplate::kChatml, "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'}}"},
      {ChatTemplate::kPhi4, "{{'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'}}"},
      {ChatTemplate::kLlama2, "{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token}}"},
      {ChatTemplate::kLlama2Sys, "{% set content = '<<SYS>>\\n' %}{{ '[INST] ' + content + ' [/INST]' }}"},
      {ChatTemplate::kLlama2SysBos, "{{- bos_token + '[INST] ' + x + ' [/INST]' -}}'<<SYS>>\\n'"},
      {ChatTemplate::kLlama2SysStrip, "{{ '[INST] ' + content.strip() + ' [/INST]' }}<<SYS>>"},
      {ChatTemplate::kLlama3, "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"},
      {ChatTemplate::kLlama4, "{{- '<|header_start|>' + role + '<|header_end|>\n\n' }}"},
      {ChatTemplate::kMistralV1, "{{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}"},
      {ChatTemplate::kMistralV3, "{{- \"[AVAILABLE_TOOLS] [\" }}{{- \"[INST] \" + x + \"[/INST]\" }}"},
      {ChatTemplate::kMistralV3Tekken, "{{- \"[AVAILABLE_TOOLS][\" }}{{- \"[INST]\" + x + \"[/INST]\" }}"},
      {ChatTemplate::kMistralV7, "{{ '[INST] ' + x }}{{ '[SYSTEM_PROMPT] ' + x + '[/SYSTEM_PROMPT]' }}"},
      {ChatTemplate::kMistralV7Tekken, "{{ '[INST]' + x }}{{ '[SYSTEM_PROMPT]' + x + '[/SYSTEM_PROMPT]' }}"},
      {ChatTemplate::kGranite, "{{- '<|start_of_role|>system<|end_of_role|>' + x + '<|end_of_text|>\n' }}"},
      {ChatTemplate::kHarmony, "{{- \"<|start|>assistant<|channel|>final<|message|>\" + x + \"<|end|>\" }}"},
      {ChatTemplate::kDeepseekCoder, "{{'### Instruction:\\n' + x}}{{'### Response:\\n' + y + '\\n<|EOT|>\\n'}}"},
      {ChatTemplate::kDeepseek2, "{{ 'User: ' + x }}{{ 'Assistant: ' + message['content'] + eos_token }}"},
      {ChatTemplate::kDeepseek3, "{{'<｜User｜>' + x}}{{'<｜Assistant｜>' + y + '<｜end▁of▁sentence｜>'}}"},
      {ChatTemplate::kTulu, "{{ '<|user|>\n' + message['content'] + '\n' }}{{ '<|assistant|>\n' + x + eos_token }}"},
      {ChatTemplate::kZephyr, "{{ '<|user|>\n' + message['content'] + eos_token }}{{ '<|assistant|>\n' + eos_token }}"},
      {ChatTemplate::kPhi3, "{{'<|user|>' + '\n' + x + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}"},
      {ChatTemplate::kVicuna, "{{-'USER: ' + x + '\n'-}}{{-'ASSISTANT: ' + y + '</s>\n' -}}"},
  };
  std::set<ChatTemplate> seen;
  for (const auto& c : cases) {
    const Result<ChatTemplate> found = detect_chat_template(c.jinja);
    REQUIRE_MESSAGE(found.ok(), c.jinja);
    CHECK_MESSAGE(*found == c.id, c.jinja << " as " << chat_template_name(*found));
    seen.insert(c.id);
  }
  CHECK(seen.size() == chat_template_names().size());
  CHECK_FALSE(detect_chat_template("").ok());
  CHECK_FALSE(detect_chat_template("{{ messages }}").ok());
}

TEST_CASE("chat template: names lead back to their template and unknown ones are listed") {
  for (const std::string_view name : chat_template_names()) {
    const Result<ChatTemplate> t = parse_chat_template_name(name);
    REQUIRE(t.ok());
    CHECK(chat_template_name(*t) == name);
    CHECK_FALSE(chat_stop_strings(*t).empty());
  }
  CHECK(*parse_chat_template_name("gpt-oss") == ChatTemplate::kHarmony);
  const auto unknown = parse_chat_template_name("smoke-signals");
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.status().message().find("smoke-signals") != std::string::npos);
  CHECK(unknown.status().message().find("chatml, llama2") != std::string::npos);
}

TEST_CASE("chat template: the model's own end token, roles and braces are written as given") {
  const std::vector<ChatMessage> chat = {{"assistant", "{eos} {role} {"}, {"tool", "42"}};
  CHECK(format_chat(ChatTemplate::kTulu, chat, false, "</s>") == "<|assistant|>\n{eos} {role} {</s>\n<|user|>\n42\n");
  CHECK(format_chat(ChatTemplate::kChatml, chat, false) ==
        "<|im_start|>assistant\n{eos} {role} {<|im_end|>\n<|im_start|>tool\n42<|im_end|>\n");
  CHECK(format_chat(ChatTemplate::kLlama3, {}, true) == "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST_CASE("chat template: thoughts stay out of the history") {
  CHECK(chat_history_text(ChatTemplate::kChatml, "<think>\nhm\n</think>\n\nYes.") == "Yes.");
  CHECK(chat_history_text(ChatTemplate::kChatml, " Yes. ") == " Yes. ");
  const std::string_view harmony =
      "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>";
  CHECK(chat_history_text(ChatTemplate::kHarmony, harmony) == "Yes.");
  CHECK(chat_history_text(ChatTemplate::kHarmony, "<|channel|>analysis<|message|>hm") == "");
}

}  // namespace moe

#include "tools/evolve_choices.h"

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "tools/train_text.h"

namespace moe::tools {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostBytes = size_t{64} << 20, kMostChoices = 64;
constexpr uint64_t kTestShare = 3;  // one question of so many is held out

uint64_t hash_of(std::string_view text) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : text) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h ^ h >> 32;
}

Status wrong(const std::string& what) {
  return Status::Corrupt("wanted {\"question\": …, \"choices\": [two or more texts], \"answer\": the right one's index}: " +
                         what);
}

Status add_task(const std::string& line, const std::string& layout, const Tokenizer& tokenizer, Choices& out) {
  const Json object = Json::parse(line, nullptr, false);
  if (!object.is_object()) return wrong("found no object");
  const Json choices = object.value("choices", Json()), answer = object.value("answer", Json());
  if (!choices.is_array() || choices.size() < 2 || choices.size() > kMostChoices) return wrong("found no such choices");
  if (!answer.is_number_integer() || answer < 0 || answer >= choices.size()) return wrong("found no such answer");
  MOE_ASSIGN(const std::string prompt, apply_layout(layout, line));
  ChoiceTask task;
  task.answer = answer.get<int>();
  const Tokenizer::EncodeOptions plain{.add_special = false, .parse_special = false};
  MOE_ASSIGN(task.prompt, tokenizer.encode(prompt, plain));
  for (const Json& choice : choices) {
    if (!choice.is_string() || choice.get_ref<const std::string&>().empty()) return wrong("found a choice that is no text");
    const auto& text = choice.get_ref<const std::string&>();
    MOE_ASSIGN(std::vector<Token> tokens, tokenizer.encode(" " + text, plain));
    task.choices.push_back(std::move(tokens));
    task.lengths.push_back(static_cast<double>(text.size()));
  }
  (hash_of(prompt) % kTestShare == 0 ? out.test : out.select).push_back(std::move(task));
  return Status::Ok();
}

}  // namespace

Result<Choices> read_choices(const std::vector<std::string>& files, const std::string& layout, const Tokenizer& tokenizer) {
  Choices out;
  for (const std::string& file : files) {
    MOE_ASSIGN(const std::string text, read_text_file(file, kMostBytes));
    size_t begin = 0;
    for (int number = 1; begin < text.size(); ++number) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      const std::string line = text.substr(begin, end - begin);
      begin = end + 1;
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      if (const Status s = add_task(line, layout, tokenizer, out); !s.ok())
        return s.Annotate(file + ":" + std::to_string(number));
    }
  }
  if (out.select.empty() || out.test.empty())
    return Status::InvalidArgument("questions: wanted some to decide by and some to hold out, found " +
                                   std::to_string(out.select.size()) + " and " + std::to_string(out.test.size()));
  return out;
}

}  // namespace moe::tools

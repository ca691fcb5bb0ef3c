// Questions with answers to choose from, for the objective accuracy: a JSON object a line,
//
//   {"question": "Which …?", "choices": ["this", "that"], "answer": 1}        answer: counted from 0
//
// The prompt is a layout of the object's fields; a choice follows it after a blank. Probabilities are divided by the choices'
// bytes, as the field's acc_norm has it.
#pragma once

#include <string>
#include <vector>

#include "evolution/text_data.h"
#include "models/tokenizer/tokenizer.h"

namespace moe::tools {

struct Choices {
  std::vector<ChoiceTask> select, test;  // by the hash of prompts: equal questions are on one side
};

// kCorrupt names file, line and what was wanted; kInvalidArgument when one side has no questions.
Result<Choices> read_choices(const std::vector<std::string>& files, const std::string& layout, const Tokenizer& tokenizer);

}  // namespace moe::tools

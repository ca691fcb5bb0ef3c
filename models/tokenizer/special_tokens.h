// What the names of well-known special tokens mean. Files often mark only one end token although a model may end its turn in
// several ways, or give special tokens the type of normal ones, so runners go by the names (as llama.cpp does).
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "models/tokenizer/vocabulary.h"

namespace moe {

struct WellKnownToken {
  std::string_view text;
  bool ends_generation = false;
  bool ends_turn = false;     // taken as eot where the file names none; the first row that the vocabulary has wins
  bool ends_message = false;  // the same for eom
  bool visible = false;       // shown in decoded text although it is a control token: it structures what the user reads
};

std::span<const WellKnownToken> well_known_tokens();

Token find_end_of_turn(const Vocabulary& vocabulary);
Token find_end_of_message(const Vocabulary& vocabulary);

// (n_vocab): whether sampling this token ends the generation, from the names and the ids given.
std::vector<bool> end_of_generation_tokens(const Vocabulary& vocabulary, std::span<const Token> ends);

}  // namespace moe

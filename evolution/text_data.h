// The texts of a search: kinds of text (domains) cut into what measures (calibration), what decides (select) and what has the
// last word (test), by the hash of documents, so that equal documents are never on two sides.
//
//   domain ──► documents ──by hash 60 / 20 / 20──► calibration │ select │ test
//                                                     each: chunks of n_ctx tokens, packed into blocks of one domain:
//                                                     block = | chunk | chunk | chunk |     the unit of a forward pass
//
// Every block is the same wherever it is scored; minibatches, rungs and whole splits are lists of blocks, so that what was
// found of one block is never found twice.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/status.h"
#include "models/tokenizer/tokenizer_data.h"

namespace moe {

struct TextDomain {
  std::string name;
  std::vector<std::vector<Token>> documents;
};

struct TextDataOptions {
  int n_ctx = 256;         // tokens of a chunk at most; a chunk begins with an empty cache
  int block_tokens = 256;  // of a block at most; at least n_ctx
  int context = 8;         // predictions from fewer tokens are not scored, but half of a short chunk's always are
  Token bos = kNoToken;    // put before every chunk
  // Over all domains together, each an equal part; what a hash picks first. 0: all there is.
  int64_t calibration_tokens = 32768, select_tokens = 32768, test_tokens = 131072;
};

// Sequences that run together: T tokens, R rows whose predictions are scored.
struct TextBlock {
  int domain = 0;
  std::vector<Token> tokens;    // (T)
  std::vector<int> lengths;     // of the sequences
  std::vector<int32_t> rows;    // (R) of tokens, ascending
  std::vector<Token> targets;   // (R) what comes behind each
  std::vector<int> rows_until;  // (sequences) rows of this sequence and of those before it
  uint64_t hash = 0;            // of tokens, lengths and rows
};

struct TextSplit {
  std::vector<TextBlock> blocks;            // interleaved: any prefix has all domains, as long as each has blocks
  std::vector<std::vector<int>> of_domain;  // (n_domains) indices of its blocks
  int64_t n_tokens = 0, n_rows = 0;
};

// Immutable.
class TextData {
 public:
  // kInvalidArgument names the domain that has too little text (tokens below 64, or all of it equal) or an option.
  static Result<TextData> create(std::span<const TextDomain> domains, const TextDataOptions& options);

  int n_domains() const { return static_cast<int>(names_.size()); }
  const std::vector<std::string>& names() const { return names_; }
  const TextDataOptions& options() const { return options_; }
  const TextSplit& calibration() const { return calibration_; }
  const TextSplit& select() const { return select_; }
  const TextSplit& test() const { return test_; }

  // Blocks of select: the first `n` of a permutation that (seed, text) draws, interleaved by domain.
  std::vector<int> minibatch(uint64_t seed, uint32_t text, int n) const;

  uint64_t hash() const { return hash_; }  // of all splits: two searches with equal hashes read the same

 private:
  std::vector<std::string> names_;
  TextDataOptions options_;
  TextSplit calibration_, select_, test_;
  uint64_t hash_ = 0;
};

// A question with answers to choose from, as tokens.
struct ChoiceTask {
  std::vector<Token> prompt;
  std::vector<std::vector<Token>> choices;  // two or more, none empty
  int answer = 0;
  // (choices) what log-probabilities are divided by: bytes of the answers for the field's acc_norm. Empty: tokens
  std::vector<double> lengths = {};
};

// One sequence for each choice of each task, in order, its tokens scored behind the prompt; a sequence is at most n_ctx long,
// what is too much of its prompt is left out. kInvalidArgument names the task.
Result<std::vector<TextBlock>> choice_blocks(std::span<const ChoiceTask> tasks, int n_ctx, int block_tokens, Token bos);
// The choices that win, task by task, from Σ −ln p of each sequence; ties go to the first.
std::vector<int> chosen(std::span<const ChoiceTask> tasks, std::span<const double> nll);

}  // namespace moe

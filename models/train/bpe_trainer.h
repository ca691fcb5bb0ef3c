// Trains a byte-level BPE vocabulary (Sennrich et al., "Neural machine translation of rare words with subword units", 2016;
// bytes as in GPT-2): again and again the most frequent pair of neighbours becomes a token.
//
//   MOE_ASSIGN(WordCounter words, WordCounter::create("gpt-2"));
//   words.add(documents, pool);
//   MOE_ASSIGN(TrainedBpe trained, train_bpe(words, {.n_vocab = 8192}));
//   set_tokenizer(trained.data, gguf_metadata);
//
// Token ids: 0 to 255 are the bytes, then come the special tokens, then the merges, best first. So special tokens keep their
// ids whatever the size, and a smaller vocabulary of the same text is the beginning of a larger one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/status.h"
#include "models/tokenizer/tokenizer_data.h"
#include "models/train/word_counter.h"

namespace moe {

struct BpeTrainerOptions {
  int n_vocab = 8192;                                     // bytes, special tokens and merges together
  std::vector<std::string> specials = {"<|endoftext|>"};  // control tokens; the first one, which must be there, ends documents
  uint64_t min_count = 2;                                 // a pair that occurs less often is not merged
  size_t max_token_bytes = 64;                            // nor is one that would make a longer token
};

struct TrainedBpe {
  TokenizerData data;  // model "gpt2", pre of the counter, eos = the first special token, no tokens added to texts
  std::string repair;  // "" or one sentence: why there are fewer tokens than wanted
};

// Told after every merge; false cancels.
using OnMerge = std::function<bool(int tokens, int wanted)>;

// The result depends on the words and their counts only. Of pairs equally frequent the one with the smaller left bytes wins,
// then the one with the smaller right bytes. Where the words support fewer tokens than wanted the vocabulary is smaller, and
// `repair` says so. kInvalidArgument: no room for the bytes and special tokens, special tokens that are empty, twice there or
// single characters that stand for a byte; min_count 0. kCancelled. Memory beside the counter's: about 12 bytes for each byte
// of a distinct word.
Result<TrainedBpe> train_bpe(const WordCounter& words, const BpeTrainerOptions& options, const OnMerge& on_merge = {});

// Sets the tokenizer.* keys of a GGUF file: the way back from TokenizerData::from_metadata. What is absent gets no key.
void set_tokenizer(const TokenizerData& data, Metadata& metadata);

}  // namespace moe

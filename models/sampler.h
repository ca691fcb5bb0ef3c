// From logits to the next token.
//
//   logits ─► + logit_bias ─► penalties ─► top-k ─► typical ─► top-p ─► min-p ─► ÷ temperature, softmax ─► draw
//
// The order, and what each step keeps, are those of llama.cpp's default chain (common/common.h, src/llama-sampler.cpp, read in
// 2025). What differs is that everything here is reproducible: sums run in a fixed order in double, equal logits are ordered by
// id, exp, log and random numbers are core/mathx.h and core/rng.h. The same seed and logits give the same tokens on every
// platform.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/rng.h"
#include "core/status.h"

namespace moe {

using Token = int32_t;

struct SamplerOptions {
  float temperature = 0.8f;     // <= 0: greedy, the highest logit; the lowest id among equals
  int top_k = 40;               // the k highest logits; <= 0: all
  float top_p = 0.95f;          // the fewest tokens whose probabilities reach p; 1: all      (Holtzman et al. 2020, §3.1)
  float min_p = 0.05f;          // tokens with at least p times the highest probability; 0: all           (Nguyen et al. 2024)
  float typical_p = 1;          // as top_p, but nearest to the expected information first; 1: all   (Meister et al. 2022, §3)
  float repeat_penalty = 1;     // > 0; logits of recent tokens: divided by it when positive, multiplied otherwise; 1: none
  float frequency_penalty = 0;  // subtracted for every time a token was seen recently
  float presence_penalty = 0;   // subtracted once for a token seen recently
  int penalty_last_n = 64;      // how many accepted tokens count as recent; 0: no penalties
  std::vector<std::pair<Token, float>> logit_bias;  // finite, or -infinity to ban; biases of one token add up
  uint64_t seed = 0;
  int min_keep = 1;  // typical, top-p and min-p leave at least this many
};

struct TokenChoice {
  Token id;
  float logit;      // after bias and penalties
  double p;         // its probability, at the stage it was computed last
  double surprise;  // typical sampling's |information - entropy|
};

// Belongs to one sequence; a copy goes on independently from the same state. Not thread-safe. Allocates in create() only.
class Sampler {
 public:
  // kInvalidArgument names the option, wanted and found.
  static Result<Sampler> create(const SamplerOptions& options, int n_vocab);

  // logits: (n_vocab). NaN counts as -infinity. When every token stands at -infinity the answer is token 0. Draws exactly one
  // random number unless greedy, so that token i depends on draw i alone.
  Token sample(std::span<const float> logits);

  // What sample() would draw from, without drawing: probabilities add up to 1. Valid until the next call.
  std::span<const TokenChoice> distribution(std::span<const float> logits);

  // Adds a token to the window of the penalties: every prompt token too. Ids outside the vocabulary are ignored.
  void accept(Token token);

  // Back to the state after create().
  void reset();

  const SamplerOptions& options() const { return options_; }

 private:
  Sampler(const SamplerOptions& options, int n_vocab);

  bool penalizes() const { return !window_.empty(); }
  std::span<const float> adjust(std::span<const float> logits);
  void penalize();
  void collect(std::span<const float> logits);
  void collect_top_k(std::span<const float> logits);
  void keep_only_best(std::span<const float> logits);
  void softmax(double temperature);
  void keep_typical();
  void keep_top_p();
  void keep_min_p();
  std::span<TokenChoice> candidates() { return {candidates_.data(), n_candidates_}; }

  SamplerOptions options_;
  size_t n_vocab_;
  Rng rng_;
  std::vector<float> adjusted_;          // (n_vocab) logits after bias and penalties; empty when there are none
  std::vector<TokenChoice> candidates_;  // the first n_candidates_ are alive, always in an order that only the logits decide
  size_t n_candidates_ = 0;
  std::vector<Token> window_;  // (penalty_last_n) ring of accepted tokens; empty when nothing is penalised
  size_t window_used_ = 0, window_next_ = 0;
  std::vector<int32_t> counts_;  // (n_vocab) how often each token stands in the window
};

}  // namespace moe

// What a run of moe-run consists of: a model, one sequence that grows by prompts and answers, and what was measured on the way.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/generate.h"
#include "models/routing_stats.h"
#include "tools/run_options.h"

namespace moe::tools {

class Runner {
 public:
  // Opens the model and makes the session that the options describe.
  static Result<std::unique_ptr<Runner>> create(Program& program, const RunArguments& arguments);

  const Model& model() const { return *model_; }
  const Session& session() const { return *session_; }
  const RoutingTopology& topology() const { return session_->topology(); }
  std::optional<uint64_t> seed() const;  // nullopt where nothing is random
  const RunArguments& arguments() const { return arguments_; }

  // The sequence becomes exactly these tokens, at least one. What it holds already is kept; the last token is evaluated in any
  // case, for its logits. Writes --logits-out. Ctrl-C makes it kCancelled.
  Status evaluate(std::span<const Token> tokens);
  // Draws tokens behind the last evaluate() until one of `stop`, an option, Ctrl-C or `on_token` ends it.
  Result<GenerateResult> generate(std::vector<std::string> stop, const TokenFunction& on_token);
  // Tokens of the last evaluate() and what was drawn since.
  const std::vector<Token>& tokens() const { return tokens_; }

  Status restore(const std::string& path);
  // Evaluates the last token if need be, so that the file holds all of tokens().
  Status save(const std::string& path);

  // --- Measured so far ---
  struct Totals {
    int n_prompt = 0, n_generated = 0, n_decoded = 0;
    double prompt_seconds = 0, generate_seconds = 0;
    double kv_length = 0;      // Σ over decoded tokens of the keys they met
    uint64_t logits_hash = 0;  // of the last prompt token's row
    double prompt_rate() const { return n_prompt > 0 ? n_prompt / prompt_seconds : 0; }
    double generate_rate() const { return n_decoded > 0 ? n_decoded / generate_seconds : 0; }
  };
  const Totals& totals() const { return totals_; }
  const RoutingStats& stats() const { return stats_; }
  // Weights and cache that one generated token reads on average, after the experts that were really used; 0 before the first.
  double bytes_per_token() const;
  // "# prompt 16 tok 812.3 tok/s | gen 64 tok 35.1 tok/s | 21.4 GB/s | peak 312 MB | logits 1a2b3c4d5e6f7081"
  std::string summary() const;

 private:
  Runner(Program& program, const RunArguments& arguments, std::unique_ptr<Model> model);
  Status open_session();
  Status make_sampler();
  Status evaluate_new(std::span<const Token> tokens);

  Program& program_;
  const RunArguments& arguments_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Sampler> sampler_;  // from the first prompt on; null when nothing is drawn
  RoutingStats stats_, decode_stats_;
  bool decoding_ = false;
  std::vector<Token> tokens_;
  Totals totals_;
};

// 64-bit FNV-1a over the bits of a row of logits (n_vocab), little-endian: equal for runs that agree bit for bit.
uint64_t hash_logits(std::span<const float> row);

// The most memory this process ever had resident.
size_t peak_memory_bytes();

}  // namespace moe::tools

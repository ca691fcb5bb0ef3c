// The command line of moe-run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/sampler.h"
#include "models/session.h"
#include "tools/common.h"
#include "tools/model_options.h"

namespace moe::tools {

struct RunArguments {
  ModelArguments model;
  std::string cache_type_k, cache_type_v;  // "": model.cache_type
  int n_ctx = 0, batch = 512;

  std::optional<std::string> prompt, prompt_file, tokens;
  int n_predict = -1;
  std::vector<std::string> stop;
  bool ignore_eos = false, no_bos = false;

  SamplerOptions sampling;
  bool greedy = false;
  std::vector<std::string> logit_bias;  // "ID=V"

  bool chat = false;
  std::string system, chat_template;

  bool zoo = false;  // list models instead of running one
  bool special = false, no_display_prompt = false, verbose_prompt = false, heat_map = false;
  std::string logits_out, stats, session, save_session;
};

void add_run_options(CLI::App& app, RunArguments& arguments);

// What the strings among the arguments mean; what makes no sense is a usage error.
std::vector<Token> parse_tokens(const std::string& text);                    // "1 2 3" or "1,2,3"
std::pair<Token, float> parse_logit_bias(const std::string& text);           // "42=-1.5", "7=-inf"
SessionOptions session_options(const RunArguments& arguments, int n_vocab);  // as Session::create() takes them

}  // namespace moe::tools

// moe-train tokenizer and moe-train tokens: what training needs from text.
#pragma once

#include <functional>
#include <memory>

#include "tools/common.h"
#include "tools/train_text.h"

namespace moe::tools {

struct CorpusArguments {
  struct Text {
    std::function<Result<std::unique_ptr<ByteSource>>(const std::string& path)> open;
    std::vector<std::string> files;
    std::string kind = "auto", separator = "<|endoftext|>", layout = "{text}", invalid = "keep";
    double most_mib = 64;
  };
  Text text;
  std::string out;
  // tokenizer
  int n_vocab = 8192;
  std::string pre = "gpt-2";
  std::vector<std::string> specials = {"<|endoftext|>"};
  uint64_t min_count = 2;
  size_t max_token_bytes = 64, max_words = size_t{1} << 23;
  // tokens
  std::string tokenizer;
  bool no_end = false;
};

void add_corpus_commands(CLI::App& app, CorpusArguments& arguments);
Status run_corpus_command(Program& program, const CorpusArguments& arguments);

}  // namespace moe::tools

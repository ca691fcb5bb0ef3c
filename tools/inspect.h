// The subcommands of moe-inspect, one function each. Results go to stdout.
#pragma once

#include <string>
#include <vector>

#include "models/io/gguf.h"
#include "tools/common.h"
#include "tools/model_options.h"

namespace moe::tools {

// --- inspect_file.cpp: what stands in the file, whether or not moe can run it ---

Status inspect_summary(const Program& program, const std::string& path);
Status inspect_keys(const Program& program, const std::string& path, bool full);
Status inspect_tensors(const Program& program, const std::string& path);

// --- inspect_text.cpp: the tokenizer; a vocabulary-only file will do ---

struct TokenizeArguments {
  std::string file, text;
  bool has_text = false;
  bool special = false, bos = false;
};
Status inspect_tokenize(const Program& program, const std::string& path, const TokenizeArguments& arguments);

struct DetokenizeArguments {
  std::vector<std::string> ids;  // as typed: 1 2 3, or "1 2 3"
  std::string file;
  bool special = false;
};
Status inspect_detokenize(const Program& program, const std::string& path, const DetokenizeArguments& arguments);

// --- inspect_model.cpp: a model that runs ---

struct GraphArguments {
  bool costs = false, unfused = false;
  int ctx = 512, tokens = 1;
};
Status inspect_graph(const Program& program, const ModelArguments& model, const GraphArguments& arguments);

struct TopologyArguments {
  std::string out, validate;
};
Status inspect_topology(const Program& program, const ModelArguments& model, const TopologyArguments& arguments);

Status inspect_check(const Program& program, const ModelArguments& model);

// --- inspect_synth.cpp: a model out of nothing ---

struct SynthArguments {
  std::string out, arch = "olmoe", type = "f32", vocab_from;
  std::vector<std::string> settings;
};
Status inspect_synth(const Program& program, const SynthArguments& arguments);

}  // namespace moe::tools

// The settings of a training run: one table of names serves the file (run.yaml), --set NAME=VALUE and the copy that is kept
// beside the checkpoint.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "models/train/trainer.h"
#include "tools/config_values.h"

namespace moe::tools {

struct CorpusConfig {
  std::string name, tokens;
  double weight = 1;
};

struct RunConfig {
  std::string out;                     // folder of what the run makes
  std::string arch, vocabulary, name;  // of a new model
  std::vector<std::string> settings;   // of a new model: "n_layer=8"
  std::string init;                    // instead: the file to go on from
  std::string teacher;
  std::vector<CorpusConfig> corpora;
  DatasetOptions data;
  double valid_targets = 65536;             // held-out tokens of each corpus that a validation reads
  std::vector<std::string> valid_variants;  // "k=2", "width=0.5"
  TrainerOptions trainer;
  int64_t checkpoint_every = 500, validate_every = 500, sample_every = 0, usage_every = 50;
  std::string prompt = "The ";
  int sample_tokens = 64;
};

// Entries of a file, then those of --set: later ones win; a list's name without a value empties the list. kInvalidArgument with
// `where` for unknown names (which lists those there are) and values that do not fit; and when something that a run needs is
// missing.
Result<RunConfig> read_run_config(std::span<const ConfigEntry> entries);

// Every setting and its meaning, for --help-config: a line of YAML each.
std::string describe_run_config();

// "k=2,width=0.5" of train.valid.variants.
Result<EvaluationOptions> parse_variant(const std::string& text);

}  // namespace moe::tools

// The settings of a search: one table of names serves evolution.yaml, --set NAME=VALUE, the program's own options and the
// journal, which keeps what a search was made of.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "evolution/constraints.h"
#include "evolution/device.h"
#include "evolution/search.h"
#include "evolution/text_data.h"
#include "tools/config_values.h"

namespace moe::tools {

struct EvolveObjective {
  std::string name;              // of objectives.h
  std::optional<double> weight;  // among the points of the front, or of the sum; all or none have one
};

struct EvolveText {
  std::string name, file;
};

struct EvolveConfig {
  std::string out;  // folder of what the search makes

  SearchOptions search;
  BreedOptions breed;
  std::vector<std::string> mutations, crossovers;  // names; empty: all there are
  double crossover_rate = -1;                      // share of children with two parents; −1: the algorithm's own

  double budget = 0, seconds = 0, target = kNotMeasured, gain = 0.001;  // when it is over
  uint32_t generations = 0, stagnation = 0;

  std::vector<EvolveObjective> objectives;
  std::vector<ObjectiveLimit> limits;

  std::string kept, active;  // "50%", "64", "25%-50%": read by budget_range()
  int k_low = 1, k_high = 0, kept_low = 1, classes = 1;
  bool skip = false, widths = false;
  float temperature_low = 0.1f, temperature_high = 10, bias_high = 1, bias_step = 0.05f;
  std::string saliency = "reap";
  bool baselines = true;                // generation 0 and the front have them
  std::vector<std::string> topologies;  // generation 0 has them: files

  std::vector<EvolveText> texts;
  TextDataOptions data;
  std::string layout = "{text}", separator = "<|endoftext|>";
  std::string most_text = "8MB";  // read of one file

  std::vector<std::string> questions;  // files of questions with choices, for the objective accuracy
  std::string question_layout = "Question: {question}\\nAnswer:";

  int score_tokens = 8192, rungs = 2, sampled = 512, candidates = 0, probe_tokens = 2048;
  uint32_t fresh_every = 0;
  std::string memory = "512MB";  // for what is known of prefixes

  int measure_points = 64;  // of the front, with a clock, at the end
  double measure_seconds = 60;

  std::string device;                  // names among `devices`, or as read_device() takes them, comma between; "": no limits
  std::vector<DeviceProfile> devices;  // hardware_targets of the file
};

// Entries of a file, then those of options: later ones win; a list's name without a value empties the list. kInvalidArgument
// with `where` for unknown names (which lists those there are), values that do not fit, what has no meaning here (and why), and
// when something that a search needs is missing.
Result<EvolveConfig> read_evolve_config(std::span<const ConfigEntry> entries);

// Every setting and its meaning, for --describe: a line of YAML each.
std::string describe_evolve_config();

// What makes a search the one it is: where it ends, and where its files are, is left out. A journal is only gone on with under
// the same.
std::vector<std::pair<std::string, std::string>> identity_of(const EvolveConfig& config);

// Whether the search minimises the weighted sum of its objectives: with an algorithm that knows only one.
bool weights_count(const EvolveConfig& config);

// "50%", "64", "25%-50%" of `total`: a share means the nearest whole number. `name` opens the messages.
Result<IntRange> budget_range(const std::string& name, const std::string& text, int64_t total);

// What a reader of the settings should know before hours of searching: weights of mixed units, nothing that asks for less …
std::vector<std::string> warnings_of(const EvolveConfig& config);

}  // namespace moe::tools

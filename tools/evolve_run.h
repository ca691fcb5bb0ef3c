// moe-evolve run: the loop around a Search. Journal, progress, front, held-out numbers; Ctrl-C finishes the generation and
// leaves a front.
//
//   OUT/journal.jsonl   what was measured, generation by generation: the run goes on from it (evolution/journal.h)
//   OUT/front.json      points beside the full model and baselines (front_file.h), written at the end
//   OUT/front-edge.json  the same for each of several devices
//   OUT/p00.json …      their topologies, the best by the first objective first
//   OUT/analysis.json   loads and saliency in the full model, for the report (evolve_analysis.h)
//   OUT/report.html     what was done and found, and matrix.png (evolve_report.h)
//   OUT/lock            held while a run writes to the folder
#pragma once

#include "tools/common.h"
#include "tools/evolve_config.h"
#include "tools/evolve_texts.h"
#include "tools/model_options.h"

namespace moe::tools {

struct EvolveRunOptions {
  ModelArguments model;
  OpenText open;
  bool resume = false;     // goes on from OUT/journal.jsonl
  bool overwrite = false;  // begins anew where OUT holds a run
};

Status run_evolution(Program& program, const EvolveConfig& config, const EvolveRunOptions& options);

}  // namespace moe::tools

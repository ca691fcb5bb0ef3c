// moe-train run: the loop around a Trainer. Log, validation, samples, checkpoints; Ctrl-C finishes the step and saves.
//
//   OUT/checkpoint.gguf   all that the next step depends on; moe-run runs it
//   OUT/log.csv           one row a step and an event: train_log.h
//   OUT/samples.txt       text that the model wrote on the way
//   OUT/lock              held while a run writes to the folder
#pragma once

#include "tools/common.h"
#include "tools/train_config.h"

namespace moe::tools {

struct TrainRunOptions {
  bool resume = false;     // goes on from OUT/checkpoint.gguf
  bool overwrite = false;  // begins anew where OUT holds a run
};

Status run_training(Program& program, const RunConfig& config, const TrainRunOptions& options);

}  // namespace moe::tools

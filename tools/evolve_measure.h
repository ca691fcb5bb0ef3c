// What the points of a front take on this machine: tokens a second and memory of processes that run them, beside the full model
// and simpler ways. Costs say what a device would take; this is what a clock says.
#pragma once

#include <string>
#include <vector>

#include "models/routing.h"
#include "tools/front_file.h"
#include "tools/model_options.h"

namespace moe::tools {

struct MeasureOptions {
  int points = 64;      // of the front at most, evenly spread; 0: nothing is measured
  double seconds = 60;  // after which no further process begins
  int n_threads = 1;
};

struct MeasureItem {
  std::string name;
  FrontPoint* point = nullptr;  // gets its numbers
  RoutingTopology topology;
};

struct MeasureFacts {
  size_t measured = 0, left = 0;  // items that were run, and those that the time was too short for
  int rounds = 0;                 // processes of each item at most
  double seconds = 0;
};

// Processes of the items in turns, each decoding the same tokens from the model's file under its topology, as moe-run --front
// does; a point's numbers are medians. An interruption ends it with what is known. For callers without threads: it forks.
Result<MeasureFacts> measure_items(const Program& program, const ModelArguments& model, std::vector<MeasureItem>& items,
                                   const MeasureOptions& options);

// "12 routings in 3 rounds, 64 tokens behind 64, 2 threads, 21 s; 4 were left out by measure.seconds"
std::string measure_text(const MeasureFacts& facts, const MeasureOptions& options);

// Indices of at most `most` of n points, both ends and evenly between.
std::vector<size_t> evenly(size_t n, size_t most);

}  // namespace moe::tools

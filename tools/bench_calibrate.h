// moe-bench calibrate: how long this machine decodes a token under many topologies of a model, and the latency model that
// explains it.
#pragma once

#include <string>
#include <vector>

#include "evolution/device.h"
#include "tools/bench_decode.h"
#include "tools/model_options.h"

namespace moe::tools {

struct CalibrateArguments {
  ModelArguments model;
  std::string out, name = "this-machine";
  DecodeOptions decode;
  int rounds = 7, n_threads = 0;
};
void add_calibrate_command(CLI::App& app, CalibrateArguments& arguments);

// A way to run the model. Held back: not fitted, only compared with what the fit says.
struct CalibrationPoint {
  std::string name;
  RoutingTopology topology;
  bool held_back = false;
  LatencySample sample = {};  // ms: median over all rounds
  double modelled_ms = 0;
  double error() const { return modelled_ms / sample.ms - 1; }
};
// At least 12 to fit and 4 held back for a model whose tokens use 2 experts or more: k from 1 to the model's own, widths,
// layers that are skipped; held back are mixtures of all.
std::vector<CalibrationPoint> calibration_points(const RoutingShape& shape, uint64_t seed);

Status calibrate(Program& program, CalibrateArguments& arguments);

}  // namespace moe::tools

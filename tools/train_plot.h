// moe-train plot: the log of a training run as a picture.
#pragma once

#include <string>

#include "tools/common.h"
#include "tools/train_page.h"

namespace moe::tools {

struct PlotArguments {
  std::string log, out;
  PageOptions page;
};

// Declares the subcommand "plot".
void add_plot(CLI::App& app, PlotArguments& arguments);
Status plot_log(const Program& program, const PlotArguments& arguments);

}  // namespace moe::tools

// moe-train export: the model of a checkpoint as a file to ship, without what only training needs.
#pragma once

#include "tools/common.h"

namespace moe::tools {

struct ExportArguments {
  std::string in, out, type = "q8_0";
};

void add_export_command(CLI::App& app, ExportArguments& arguments);
Status run_export(Program& program, const ExportArguments& arguments);

}  // namespace moe::tools

// moe-train upcycle: a dense model as a mixture of experts, to go on training from.
#pragma once

#include "models/train/upcycle.h"
#include "tools/common.h"

namespace moe::tools {

struct UpcycleArguments {
  std::string in, out;
  UpcycleOptions options;
};

void add_upcycle_command(CLI::App& app, UpcycleArguments& arguments);
Status run_upcycle(Program& program, const UpcycleArguments& arguments);

}  // namespace moe::tools

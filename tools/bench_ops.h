// moe-bench ops: how fast each kernel of an instruction set is on one thread.
#pragma once

#include <string>

#include "tools/common.h"

namespace moe::tools {

struct OpsArguments {
  std::string isa, filter;  // filter: part of a kernel's name
};

Status bench_ops(const Program& program, const OpsArguments& arguments);

}  // namespace moe::tools

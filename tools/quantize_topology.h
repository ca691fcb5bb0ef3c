// moe-quantize --topology: the smaller file of a routing topology.
#pragma once

#include "tools/common.h"

namespace moe::tools {

struct TopologyWrite {
  std::string in, out, topology;
  bool dry_run = false;
};

Status write_by_topology(const Program& program, const TopologyWrite& a);

}  // namespace moe::tools

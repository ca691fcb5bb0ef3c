// Sizes as people write them.
#pragma once

#include <string>

#include "core/status.h"

namespace moe::tools {

// "2GB", "500 MB", "1.5 GiB", "4096": kB, MB, GB, TB are powers of 1000, with an i between powers of 1024; letters of any case,
// the B may be missing. Above 0.
Result<double> parse_bytes(const std::string& text);

}  // namespace moe::tools

// Canvases as PNG files, through stb_image_write (Debian: libstb-dev). A build without it (MOE_STB not defined) says so.
#pragma once

#include <string>

#include "core/status.h"
#include "tools/canvas.h"

namespace moe::tools {

bool can_write_png();
// Whole or not at all. kUnsupported in a build without stb.
Status write_png(const Canvas& canvas, const std::string& path);

}  // namespace moe::tools

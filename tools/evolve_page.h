// The page of a search's report: HTML, style and a script written by hand, with the run as JSON inside. No other file, no
// network.
#pragma once

#include <string>
#include <string_view>

namespace moe::tools {

// `json` must be safe inside of a script element: no '<'.
std::string report_html(std::string_view json);

// Parts of the page's script, in order; they share one scope.
extern const std::string_view kPageDrawing;  // canvases, axes, colours, what a pointer does
extern const std::string_view kPagePanels;   // what is drawn

}  // namespace moe::tools

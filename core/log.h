// Where the library says things: a sink that the embedder passes in. Without one it is silent.
#pragma once

#include <functional>
#include <string_view>

namespace moe {

enum class LogLevel { kDebug, kInfo, kWarning };
using LogSink = std::function<void(LogLevel, std::string_view)>;

}  // namespace moe

#include "tools/config_values.h"

#include <algorithm>

namespace moe::tools {

Result<ConfigEntry> parse_set(const std::string& text) {
  const size_t at = text.find('=');
  if (at == std::string::npos || at == 0) return Status::InvalidArgument("--set: wanted NAME=VALUE, found '" + text + "'");
  return ConfigEntry{text.substr(0, at), text.substr(at + 1), "--set"};
}

bool parse_value(const std::string& text, bool& out) {
  out = text == "true" || text == "yes" || text == "1";
  return out || text == "false" || text == "no" || text == "0";
}

std::string setting_line(const std::string& name, const std::string& value, const std::string& meaning) {
  std::string line = name + ": " + value;
  line.resize(std::max<size_t>(line.size() + 1, 36), ' ');
  line += meaning.empty() ? "" : "# " + meaning;
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

}  // namespace moe::tools

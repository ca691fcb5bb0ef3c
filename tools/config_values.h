// Settings as programs read them, from a file or from --set: names with dots, values as text.
#pragma once

#include <charconv>
#include <string>

#include "core/status.h"

namespace moe::tools {

// A leaf of a YAML file: "train.rows" = "16", "data.corpora.0.tokens" = "wiki.tok", "elastic.widths.1" = "0.5".
struct ConfigEntry {
  std::string name, value;
  std::string where;  // "run.yaml:12", or the option that it came from
};

// "NAME=VALUE" of an option.
Result<ConfigEntry> parse_set(const std::string& text);

// False, and `out` unspecified, when the text is no value of this type.
inline bool parse_value(const std::string& text, std::string& out) {
  out = text;
  return true;
}
bool parse_value(const std::string& text, bool& out);
template <class T>
bool parse_value(const std::string& text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

// What parse_value() reads back as the same.
inline std::string show_value(const std::string& v) { return v; }
inline std::string show_value(bool v) { return v ? "true" : "false"; }
template <class T>
std::string show_value(T v) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, v).ptr;
  return {text, end};
}

// "name: value   # meaning", a line of YAML for --describe.
std::string setting_line(const std::string& name, const std::string& value, const std::string& meaning);

}  // namespace moe::tools

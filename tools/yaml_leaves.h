// YAML files as ConfigEntry. Only the program that includes this links yaml-cpp; a build without it (MOE_YAML not defined, e.g.
// a cross build) says so when it is given a file.
#pragma once

#include <string>
#include <vector>

#include "core/file.h"
#include "tools/config_values.h"

#ifdef MOE_YAML
#include <yaml-cpp/yaml.h>
#endif

namespace moe::tools {

#ifdef MOE_YAML

// Aliases can make a small file a huge tree: nodes are counted, not only what comes of them.
struct YamlLeaves {
  static constexpr int kMostNodes = 10000, kMostDepth = 16;
  std::string file;
  std::vector<ConfigEntry> entries;
  int nodes = 0;

  Status add(const YAML::Node& node, const std::string& name, int depth = 0) {
    const std::string where = file + ":" + std::to_string(node.Mark().line + 1);
    if (++nodes > kMostNodes || depth > kMostDepth) return Status::OutOfRange(where + ": too much for settings of a run");
    const auto below = [&](const std::string& key) { return name.empty() ? key : name + "." + key; };
    if (node.IsMap()) {
      for (const auto& child : node) MOE_TRY(add(child.second, below(child.first.as<std::string>()), depth + 1));
    } else if (node.IsSequence()) {
      for (size_t i = 0; i < node.size(); ++i) MOE_TRY(add(node[i], below(std::to_string(i)), depth + 1));
    } else if (node.IsScalar()) {
      entries.push_back({name, node.Scalar(), where});
    }
    return Status::Ok();
  }
};

inline Result<std::vector<ConfigEntry>> read_yaml(const std::string& path) {
  MOE_ASSIGN(const std::string text, read_text_file(path, size_t{16} << 20));
  YamlLeaves leaves;
  leaves.file = path;
  try {
    MOE_TRY(leaves.add(YAML::Load(text), ""));
  } catch (const YAML::Exception& e) {
    return Status::Corrupt(path + ":" + std::to_string(e.mark.line + 1) + ": " + e.msg);
  }
  return std::move(leaves.entries);
}

#else

inline Result<std::vector<ConfigEntry>> read_yaml(const std::string& path) {
  return Status::Unsupported(path + ": this build reads no YAML: it was made without yaml-cpp; say --set NAME=VALUE instead");
}

#endif

}  // namespace moe::tools

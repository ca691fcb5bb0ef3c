// What a search is after, as settings: objectives, limits, texts, devices, budgets. In the form of evolution.yaml, and by name.
//
//   objectives: [{name: kl}, {name: latency, weight: -0.2, target: 10}]     a target is a limit; weights choose at the end
//   limits: {resident-bytes: 2GB}
//   constraints: {max_memory: 4GB}                                          the same as limits.resident-bytes
//   texts: [{name: code, file: code.txt}]
//   hardware_targets: [{name: edge, memory: 1GB, compute: int8, target_latency: 50}]
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "tools/evolve_config.h"

namespace moe::tools {

inline constexpr uint32_t kDefaultGenerations = 50;  // where nothing says when it is over

// Collects entries of those names in any order, then makes settings of them.
class TargetEntries {
 public:
  bool takes(std::string_view name) const;
  Status add(const ConfigEntry& entry);
  Status finish(EvolveConfig& config) const;

 private:
  using Fields = std::map<std::string, ConfigEntry>;  // by field: "name", "weight"
  struct Group {
    std::map<int, Fields> items;
    std::map<std::string, ConfigEntry> named;  // limits
  };
  Status objectives(EvolveConfig& config) const;
  Status limits(EvolveConfig& config) const;
  Status texts(EvolveConfig& config) const;
  Status devices(EvolveConfig& config) const;
  std::map<std::string, Group, std::less<>> groups_;
};

std::string describe_targets();

}  // namespace moe::tools

// How many processors this process may keep busy. The functions that read files take the folder that stands for "/", so that a
// test can lay out a machine of its own.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace moe {

// Numbers of the logical processors in the affinity mask; where the system has none, 0 … hardware_concurrency − 1. Never empty.
std::vector<int> allowed_cpus();

// Physical cores behind these logical processors: SMT siblings count once (sys/devices/system/cpu/cpuN/topology).
int count_cores(const std::string& root, const std::vector<int>& cpus);

// CPU time per wall time that the process's control groups leave it: the smallest limit from its own group (proc/self/cgroup)
// up to the root, cgroup v1 and v2. None when nothing limits it.
std::optional<double> cpu_quota(const std::string& root);

// `cpus`, lowered to the quota of `root` rounded down; at least 1.
int limit_to_quota(const std::string& root, int cpus);

}  // namespace moe

// Sources: sched_setaffinity(2), Linux Documentation/admin-guide/cputopology.rst, cgroup-v2.rst ("cpu.max") and
// scheduler/sched-bwc.rst ("cpu.cfs_quota_us").
#include "core/cpu_count.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <numeric>
#include <set>
#include <string_view>
#include <thread>

#include "core/file.h"

#if defined(__linux__)
#include <sched.h>

#include <cerrno>
#endif

namespace moe {
namespace {

constexpr size_t kMaxSystemFile = size_t{1} << 20;

// Cuts off and returns the part of `text` before the first `separator`, which goes too; all of it when there is none.
std::string_view take_until(std::string_view& text, char separator) {
  const size_t end = text.find(separator);
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return part;
}

// The number that `text` begins with.
std::optional<int64_t> leading_number(std::string_view text) {
  int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc()) return std::nullopt;
  return n;
}

std::optional<double> quota_ratio(std::optional<int64_t> quota, std::optional<int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;  // −1 in v1 and "max" in v2: no limit
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

// v2: one file with "max 100000" or "150000 100000".
std::optional<double> quota_v2(const std::string& folder) {
  const Result<std::string> file = read_text_file(folder + "/cpu.max", kMaxSystemFile);
  if (!file.ok()) return std::nullopt;
  std::string_view text = *file;
  const auto quota = leading_number(take_until(text, ' '));
  return quota_ratio(quota, leading_number(text));
}

// v1: a file for each of the two numbers.
std::optional<double> quota_v1(const std::string& folder) {
  const Result<std::string> quota = read_text_file(folder + "/cpu.cfs_quota_us", kMaxSystemFile);
  const Result<std::string> period = read_text_file(folder + "/cpu.cfs_period_us", kMaxSystemFile);
  if (!quota.ok() || !period.ok()) return std::nullopt;
  return quota_ratio(leading_number(*quota), leading_number(*period));
}

using ReadQuota = std::optional<double> (*)(const std::string& folder);

// The smallest quota of mount + path and every folder above it up to the mount. In a container the path may be the host's and
// not exist here; the group is then mounted at the top, where the walk ends.
void lower_by_walk(std::optional<double>& least, const std::string& mount, std::string_view path, ReadQuota read) {
  if (path.find("/..") != std::string_view::npos) path = {};  // outside of our cgroup namespace
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  for (;;) {
    const std::optional<double> quota = read(mount + std::string(path));
    if (quota && (!least || *quota < *least)) least = quota;
    if (path.empty()) return;
    const size_t slash = path.rfind('/');
    path = path.substr(0, slash == std::string_view::npos ? 0 : slash);
  }
}

bool holds_cpu(std::string_view controllers) {
  while (!controllers.empty()) {
    if (take_until(controllers, ',') == "cpu") return true;
  }
  return false;
}

}  // namespace

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
#if defined(__linux__)
  // The kernel refuses (EINVAL) a mask smaller than its own; its size is not known beforehand.
  for (size_t words = 16; words <= 4096; words *= 2) {
    std::vector<cpu_set_t> masks(words * sizeof(unsigned long) / sizeof(cpu_set_t) + 1);
    const size_t bytes = masks.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, masks.data()) != 0) {
      if (errno == EINVAL) continue;
      break;
    }
    for (size_t i = 0; i < bytes * 8; ++i) {
      if (CPU_ISSET_S(i, bytes, masks.data())) cpus.push_back(static_cast<int>(i));
    }
    break;
  }
#endif
  if (cpus.empty()) {
    cpus.resize(std::max(1u, std::thread::hardware_concurrency()));
    std::iota(cpus.begin(), cpus.end(), 0);
  }
  return cpus;
}

int count_cores(const std::string& root, const std::vector<int>& cpus) {
  std::set<int64_t> cores;  // a core is named by the first of its siblings
  for (int cpu : cpus) {
    const std::string path = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list";
    const Result<std::string> siblings = read_text_file(path, kMaxSystemFile);
    const auto first = siblings.ok() ? leading_number(*siblings) : std::nullopt;
    cores.insert(first.value_or(cpu));
  }
  return std::max(1, static_cast<int>(cores.size()));
}

// A line of proc/self/cgroup is "id:controllers:path"; v2 has id 0 and no controllers.
std::optional<double> cpu_quota(const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  std::optional<double> least;
  const Result<std::string> groups = read_text_file(root + "/proc/self/cgroup", kMaxSystemFile);
  if (!groups.ok()) return least;
  std::string_view text = *groups;
  while (!text.empty()) {
    std::string_view path = take_until(text, '\n');
    const std::string_view id = take_until(path, ':');
    const std::string_view controllers = take_until(path, ':');
    if (controllers.empty() && id == "0") {
      lower_by_walk(least, mount, path, quota_v2);
    } else if (holds_cpu(controllers)) {
      lower_by_walk(least, mount + "/" + std::string(controllers), path, quota_v1);
      lower_by_walk(least, mount + "/cpu", path, quota_v1);
    }
  }
  return least;
}

int limit_to_quota(const std::string& root, int cpus) {
  const std::optional<double> quota = cpu_quota(root);
  if (quota && *quota < cpus) cpus = static_cast<int>(*quota);
  return std::max(1, cpus);
}

}  // namespace moe

#include "core/cpu_count.h"

#include <doctest/doctest.h>

#include "core/threads.h"
#include "tests/temp_folder.h"

using namespace moe;
using moe::test::TempFolder;

namespace {

void write_siblings(const TempFolder& root, int cpu, const std::string& list) {
  root.write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list", list + "\n");
}

}  // namespace

TEST_CASE("siblings of a core count once, whether listed as a range or one by one") {
  const TempFolder root;
  for (int cpu : {0, 4}) write_siblings(root, cpu, "0,4");
  for (int cpu : {1, 5}) write_siblings(root, cpu, "1,5");
  for (int cpu : {2, 3}) write_siblings(root, cpu, "2-3");
  CHECK(count_cores(root.path(), {0, 1, 2, 3, 4, 5}) == 3);
  CHECK(count_cores(root.path(), {4, 5}) == 2);
  CHECK(count_cores(root.path(), {3}) == 1);
}

TEST_CASE("a processor without a readable sibling list is a core of its own") {
  const TempFolder root;
  write_siblings(root, 0, "0-1");
  write_siblings(root, 2, "garbage");
  CHECK(count_cores(root.path(), {0, 2, 3}) == 3);
  CHECK(count_cores(root.path(), {}) == 1);
}

TEST_CASE("the cgroup v2 quota is the smallest from the process's group up to the root") {
  const TempFolder root;
  root.write("proc/self/cgroup", "0::/a/b/c\n");
  CHECK_FALSE(cpu_quota(root.path()));
  root.write("sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
  CHECK_FALSE(cpu_quota(root.path()));
  root.write("sys/fs/cgroup/a/b/cpu.max", "350000 100000\n");
  CHECK(cpu_quota(root.path()) == 3.5);
  root.write("sys/fs/cgroup/a/cpu.max", "800000 100000\n");
  CHECK(cpu_quota(root.path()) == 3.5);
  root.write("sys/fs/cgroup/a/b/c/cpu.max", "50000 100000\n");
  CHECK(cpu_quota(root.path()) == 0.5);
}

TEST_CASE("in a container whose path is the host's, the limit mounted at the top holds") {
  const TempFolder root;
  root.write("proc/self/cgroup", "0::/kubepods/pod1/0123abcd\n");
  root.write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  CHECK(cpu_quota(root.path()) == 2.0);
  root.write("proc/self/cgroup", "0::/\n");
  CHECK(cpu_quota(root.path()) == 2.0);
  root.write("proc/self/cgroup", "0::/../../other\n");
  CHECK(cpu_quota(root.path()) == 2.0);
}

TEST_CASE("the cgroup v1 quota is found under the controllers' folder and under cpu") {
  const TempFolder root;
  root.write("proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/y\n");
  root.write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
  CHECK_FALSE(cpu_quota(root.path()));
  root.write("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "600000\n");
  root.write("sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n");
  CHECK(cpu_quota(root.path()) == 6.0);
  root.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "125000\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n");
  CHECK(cpu_quota(root.path()) == 2.5);
}

TEST_CASE("another controller's group is not the process's own") {
  const TempFolder root;
  root.write("proc/self/cgroup", "5:cpuset:/x\n");
  root.write("sys/fs/cgroup/cpuset/x/cpu.cfs_quota_us", "100000\n");
  root.write("sys/fs/cgroup/cpuset/x/cpu.cfs_period_us", "100000\n");
  CHECK_FALSE(cpu_quota(root.path()));
}

TEST_CASE("nonsense in the cgroup files is no limit") {
  for (const char* text :
       {"", "\n", "100000", "0 100000", "100000 0", "-5 100000", "x y", "100000 x", "99999999999999999999999 100000"}) {
    const TempFolder root;
    root.write("proc/self/cgroup", "0::/\n\n:::\nxyz");
    root.write("sys/fs/cgroup/cpu.max", text);
    CHECK_FALSE(cpu_quota(root.path()));
    CHECK(limit_to_quota(root.path(), 8) == 8);
  }
}

TEST_CASE("a quota is rounded down, at least 1, and never raises the count") {
  const TempFolder root;
  root.write("proc/self/cgroup", "0::/\n");
  root.write("sys/fs/cgroup/cpu.max", "290000 100000\n");
  CHECK(limit_to_quota(root.path(), 8) == 2);
  CHECK(limit_to_quota(root.path(), 1) == 1);
  root.write("sys/fs/cgroup/cpu.max", "20000 100000\n");
  CHECK(limit_to_quota(root.path(), 8) == 1);
  root.write("sys/fs/cgroup/cpu.max", "9000000000000000000 1000\n");
  CHECK(limit_to_quota(root.path(), 8) == 8);
}

TEST_CASE("the default thread count is at least 1 and at most the processors allowed") {
  const int allowed = static_cast<int>(allowed_cpus().size());
  CHECK(allowed >= 1);
  CHECK(default_thread_count() >= 1);
  CHECK(default_thread_count() <= allowed);
}

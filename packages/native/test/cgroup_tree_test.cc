#include "sandbox/cgroup_tree.h"

#include "expect.h"

namespace deltabox::test {

namespace {

const std::string kTwo = "30 24 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
const std::string kHybrid =
    "31 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

}  // namespace

TEST_CASE("version two alone: every controller is there") {
  const auto place = find_cgroup("memory", kTwo, "0::/user.slice/app.scope\n");
  REQUIRE(place);
  CHECK(place->version == CgroupVersion::kTwo);
  CHECK(place->mount_point == "/sys/fs/cgroup");
  CHECK(place->own_dir == "/sys/fs/cgroup/user.slice/app.scope");
}

TEST_CASE("both versions: the controller's own hierarchy goes before the unified one") {
  const std::string own = "4:memory:/a/b\n3:cpuacct,cpu:/\n0::/u\n";
  const auto memory = find_cgroup("memory", kHybrid, own);
  REQUIRE(memory);
  CHECK(memory->version == CgroupVersion::kOne);
  CHECK(memory->own_dir == "/sys/fs/cgroup/memory/a/b");
  const auto cpu = find_cgroup("cpu", kHybrid, own);
  REQUIRE(cpu);
  CHECK(cpu->own_dir == "/sys/fs/cgroup/cpu,cpuacct");
  const auto pids = find_cgroup("pids", kHybrid, own);
  REQUIRE(pids);
  CHECK(pids->version == CgroupVersion::kTwo);
  CHECK(pids->own_dir == "/sys/fs/cgroup/unified/u");
}

TEST_CASE("a mount that shows a part of the tree") {
  const std::string mount = "30 24 0:27 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
  CHECK(find_cgroup("memory", mount, "0::/docker/x/job\n")->own_dir == "/sys/fs/cgroup/job");
  CHECK(find_cgroup("memory", mount, "0::/docker/x\n")->own_dir == "/sys/fs/cgroup");
  CHECK(find_cgroup("memory", mount, "0::/\n")->own_dir == "/sys/fs/cgroup");
}

TEST_CASE("nothing mounted, and lines that are not understood") {
  CHECK_FALSE(find_cgroup("memory", "", "0::/\n"));
  CHECK_FALSE(find_cgroup("memory", "garbage\n1 2 3\n", "nonsense"));
  CHECK_FALSE(find_cgroup("memory", kTwo, ""));
}

}  // namespace deltabox::test

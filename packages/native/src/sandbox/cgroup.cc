#include "sandbox/cgroup.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <sstream>

#include "sandbox/cgroup_tree.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::uint64_t kCpuPeriodUs = 100'000;
constexpr int kKeeperFd = 3;
// The kernel takes tasks down after the engine's end; a group can be removed when the last of them is gone.
constexpr int kRemoveTries = 600;
constexpr unsigned kRemovePauseUs = 100'000;

struct Group {
  std::string dir;
  CgroupVersion version = CgroupVersion::kTwo;
};

struct Setting {
  const char* file;
  std::string value;
  bool required;
};

bool has_word(const std::string& text, const std::string& word) {
  std::istringstream words(text);
  for (std::string one; words >> one;) {
    if (one == word) return true;
  }
  return false;
}

std::string read_or_empty(const std::string& path) {
  const Result<std::string> text = sys::read_file_at(AT_FDCWD, path, 1u << 20);
  return text.ok() ? text.value() : std::string();
}

Error missing(const std::string& controller, const std::string& why) {
  const std::string limit = controller == "memory" ? "limits.memoryBytes" : "limits.cpus";
  return make_error(Code::kUnsupported,
                    limit + " needs a control group with the " + controller + " controller, and " + why,
                    "Leave it out, start the sandbox as root, or delegate the controller to this user "
                    "(`systemd-run --user --scope -p Delegate=yes …`); `deltabox doctor` tries it.");
}

// Version two enables controllers for the children of a group that holds no process, so the place is beside our own
// group or above. Version one has no such rule.
Result<Group> make_group(const std::string& controller, const std::string& name, const std::string& mountinfo,
                         const std::string& self_cgroup) {
  const std::optional<CgroupPlace> place = find_cgroup(controller, mountinfo, self_cgroup);
  if (!place) return missing(controller, "none is mounted here");
  std::string why = "it is not enabled here";
  for (std::string dir = place->own_dir; dir.size() >= place->mount_point.size(); dir.erase(dir.rfind('/'))) {
    const bool offers =
        place->version == CgroupVersion::kOne || has_word(read_or_empty(dir + "/cgroup.subtree_control"), controller);
    if (offers) {
      const std::string path = dir + "/" + name;
      // The other limit may have made it.
      if (::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) return Group{path, place->version};
      why = "this user may not make one: " + os_error("mkdir", path).describe();
      if (place->version == CgroupVersion::kOne) break;
    }
    if (dir == place->mount_point) break;
  }
  return missing(controller, why);
}

Result<void> apply(const std::string& dir, const std::vector<Setting>& settings) {
  for (const Setting& setting : settings) {
    Result<void> written = sys::write_file_at(AT_FDCWD, dir + "/" + setting.file, setting.value);
    if (!written.ok() && setting.required) return written;
  }
  return {};
}

// Without swap in the bound a sandbox would only be slow where it should end. Hosts without swap accounting lack the
// second file, and then often swap too.
std::vector<Setting> memory_settings(CgroupVersion version, std::uint64_t bytes) {
  const std::string value = std::to_string(bytes);
  if (version == CgroupVersion::kTwo) return {{"memory.max", value, true}, {"memory.swap.max", "0", false}};
  return {{"memory.limit_in_bytes", value, true}, {"memory.memsw.limit_in_bytes", value, false}};
}

std::vector<Setting> cpu_settings(CgroupVersion version, double cpus) {
  const auto quota = std::to_string(static_cast<std::uint64_t>(cpus * static_cast<double>(kCpuPeriodUs)));
  const std::string period = std::to_string(kCpuPeriodUs);
  if (version == CgroupVersion::kTwo) return {{"cpu.max", quota + " " + period, true}};
  return {{"cpu.cfs_period_us", period, true}, {"cpu.cfs_quota_us", quota, true}};
}

[[noreturn]] void keep(int lifeline_fd, const std::vector<std::string>& dirs) {
  ::setsid();
  ::signal(SIGHUP, SIG_IGN);
  ::dup2(lifeline_fd, kKeeperFd);
  ::close_range(kKeeperFd + 1, ~0u, 0);
  for (int slot = 0; slot < 3; ++slot) ::close(slot);
  char ignored;
  while (::read(kKeeperFd, &ignored, 1) < 0 && errno == EINTR) {
  }
  for (int attempt = 0; attempt < kRemoveTries; ++attempt) {
    const bool all_gone = std::all_of(
        dirs.begin(), dirs.end(), [](const std::string& dir) { return ::rmdir(dir.c_str()) == 0 || errno == ENOENT; });
    if (all_gone) ::_exit(0);
    ::usleep(kRemovePauseUs);
  }
  ::_exit(1);
}

Result<UniqueFd> start_keeper(const std::vector<Group>& groups) {
  std::vector<std::string> dirs;
  for (const Group& group : groups) dirs.push_back(group.dir);
  auto [read_end, write_end] = TRY(sys::make_pipe(0));
  const pid_t pid = ::fork();
  if (pid < 0) return os_error("fork", "keeper of the control groups");
  if (pid == 0) {
    write_end.reset();
    keep(read_end.get(), dirs);
  }
  return std::move(write_end);
}

std::string read_again(int fd) {
  char text[4096];
  const ssize_t count = ::pread(fd, text, sizeof text, 0);
  return count > 0 ? std::string(text, static_cast<std::size_t>(count)) : std::string();
}

}  // namespace

Result<Cgroups> Cgroups::create(const CgroupLimits& limits, const std::string& name) {
  Cgroups made;
  if (limits.memory_bytes == 0 && limits.cpus == 0) return made;
  const std::string mountinfo = TRY(sys::read_file_at(AT_FDCWD, "/proc/self/mountinfo", 16u << 20));
  const std::string self_cgroup = TRY(sys::read_file_at(AT_FDCWD, "/proc/self/cgroup", 1u << 20));
  std::vector<Group> groups;
  const auto fill = [&]() -> Result<void> {
    if (limits.memory_bytes > 0) {
      groups.push_back(TRY(make_group("memory", name, mountinfo, self_cgroup)));
      const Group& group = groups.back();
      const bool two = group.version == CgroupVersion::kTwo;
      TRY(apply(group.dir, memory_settings(group.version, limits.memory_bytes)));
      made.memory_usage_ =
          TRY(sys::open_at(AT_FDCWD, group.dir + (two ? "/memory.current" : "/memory.usage_in_bytes"), O_RDONLY));
      made.memory_events_ =
          TRY(sys::open_at(AT_FDCWD, group.dir + (two ? "/memory.events" : "/memory.oom_control"), O_RDONLY));
    }
    if (limits.cpus > 0) {
      groups.push_back(TRY(make_group("cpu", name, mountinfo, self_cgroup)));
      TRY(apply(groups.back().dir, cpu_settings(groups.back().version, limits.cpus)));
    }
    for (const Group& group : groups) {
      made.procs_.push_back(TRY(sys::open_at(AT_FDCWD, group.dir + "/cgroup.procs", O_WRONLY)));
    }
    made.lifeline_ = TRY(start_keeper(groups));
    return {};
  };
  const Result<void> filled = fill();
  if (filled.ok()) return made;
  for (const Group& group : groups) (void)::rmdir(group.dir.c_str());
  return filled.error();
}

Result<void> Cgroups::admit(HostTid task) const {
  const std::string line = std::to_string(task.value);
  for (const UniqueFd& procs : procs_) {
    if (::write(procs.get(), line.data(), line.size()) < 0) return os_error("write", "cgroup.procs");
  }
  return {};
}

std::optional<CgroupUsage> Cgroups::usage() const {
  if (!memory_usage_) return std::nullopt;
  CgroupUsage usage;
  usage.memory_bytes = std::strtoull(read_again(memory_usage_.get()).c_str(), nullptr, 10);
  std::istringstream events(read_again(memory_events_.get()));
  std::string key;
  for (std::uint64_t value = 0; events >> key >> value;) {
    if (key == "oom_kill") usage.oom_kills = value;
  }
  return usage;
}

}  // namespace deltabox

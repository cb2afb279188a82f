#include "engine/metrics.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "sys/files.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

// A walk that takes longer would hold the sandbox's other clients for more than a tenth of a second.
constexpr std::size_t kMaxWalkedFiles = 50'000;
constexpr int kMaxDepth = 64;  // each level holds a descriptor, and a program inside may nest as deep as it likes

struct ProcessUse {
  std::uint64_t ticks = 0;  // its own, and those of its children that it waited for
  std::uint64_t threads = 0;
  std::uint64_t anonymous_bytes = 0;
  std::uint64_t resident_bytes = 0;
};

Result<ProcessUse> read_use(int proc_fd, const std::string& pid) {
  ProcessUse use;
  const std::string stat = TRY(sys::read_file_at(proc_fd, pid + "/stat", 65536));
  // The name in parentheses may hold anything; the fields after it are numbers (proc(5)): utime is the 14th.
  std::istringstream fields(stat.substr(stat.rfind(')') + 1));
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  std::uint64_t ticks[4] = {};
  for (std::uint64_t& value : ticks) fields >> value;
  for (const std::uint64_t value : ticks) use.ticks += value;
  fields >> skipped >> skipped >> use.threads;
  const std::string statm = TRY(sys::read_file_at(proc_fd, pid + "/statm", 4096));
  std::istringstream pages(statm);
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  std::uint64_t shared = 0;  // of files and shared memory
  pages >> total >> resident >> shared;
  use.resident_bytes = resident * kPageSize;
  use.anonymous_bytes = (resident - std::min(resident, shared)) * kPageSize;
  return use;
}

struct DiskUse {
  std::uint64_t bytes = 0;
  std::size_t files = 0;
};

// False when there is more than may be walked.
bool add_disk_use(int dir_fd, int depth, DiskUse& use) {
  if (depth > kMaxDepth) return false;
  const Result<std::vector<std::string>> names = sys::list_dir(dir_fd);
  if (!names.ok()) return true;
  for (const std::string& name : names.value()) {
    if (++use.files > kMaxWalkedFiles) return false;
    struct stat info {};
    if (::fstatat(dir_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
    use.bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
    if (!S_ISDIR(info.st_mode)) continue;
    const Result<UniqueFd> child = sys::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (child.ok() && !add_disk_use(child.value().get(), depth + 1, use)) return false;
  }
  return true;
}

}  // namespace

Result<void> fill_metrics(SandboxState& state, v1::Metrics& metrics) {
  const SandboxNamespaces& namespaces = state.namespaces();
  const int proc_fd = namespaces.host_proc.get();
  const auto us_per_tick = static_cast<std::uint64_t>(1'000'000 / ::sysconf(_SC_CLK_TCK));
  std::uint64_t ticks = 0;
  std::uint64_t threads = 0;
  std::uint64_t memory_bytes = 0;
  std::vector<HostTid> tasks = descendants_of(proc_fd, namespaces.init);
  metrics.set_tasks(tasks.size());
  tasks.push_back(namespaces.init);  // has waited for all that nobody else waited for
  for (const HostTid task : tasks) {
    const Result<ProcessUse> use = read_use(proc_fd, std::to_string(task.value));
    if (!use.ok()) continue;  // ended meanwhile
    ticks += use.value().ticks;
    memory_bytes += use.value().anonymous_bytes;
    if (task != namespaces.init) threads += use.value().threads;
  }
  metrics.set_cpu_us(ticks * us_per_tick);
  metrics.set_memory_bytes(memory_bytes);
  metrics.set_threads(threads);
  DiskUse disk;
  metrics.set_disk_is_lower_bound(!add_disk_use(namespaces.store.get(), 0, disk));
  metrics.set_disk_bytes(disk.bytes);
  metrics.set_page_store_bytes(state.page_store_bytes());
  if (state.budget() != nullptr) {
    metrics.set_hot_bound_bytes(state.budget()->bound_bytes());
    metrics.set_hot_total_bytes(state.budget()->total_bytes());
  }
  metrics.set_cold_checkpoints(state.cold_checkpoints());
  metrics.set_checkpoints(state.tree().all().size());
  const ProcessUse engine = TRY(read_use(proc_fd, "self"));
  metrics.set_engine_rss_bytes(engine.resident_bytes);
  metrics.set_engine_cpu_us(engine.ticks * us_per_tick);
  const UniqueFd own_fds = TRY(sys::open_at(namespaces.self_fd_dir.get(), ".", O_RDONLY | O_DIRECTORY));
  metrics.set_engine_open_fds(TRY(sys::list_numeric_dir(own_fds.get())).size() - 1);
  return {};
}

}  // namespace deltabox

#include "tracee/known_tasks.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "sys/files.h"
#include "tracee/proc_files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMostThreads = 512;       // two descriptors each; and as many processes, with one each
constexpr std::size_t kShareOfDescriptors = 8;  // and at most a quarter of those that the engine may open
constexpr int kPidfdThread = O_EXCL;            // PIDFD_THREAD, 6.9
// Links of the directory /proc/PID/task when it shows no thread.
constexpr std::size_t kLinksOfTaskDir = 2;

}  // namespace

KnownTasks::KnownTasks(int proc_fd) : proc_fd_(proc_fd), most_threads_(kMostThreads) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    most_threads_ = std::min<std::size_t>(most_threads_, limit.rlim_cur / kShareOfDescriptors);
  }
}

void KnownTasks::forget_ended() {
  std::vector<pollfd> waiting;
  std::vector<std::pair<HostTid, HostTid>> names;
  for (const auto& [pid, process] : processes_) {
    for (const auto& [tid, thread] : process.threads) {
      waiting.push_back({thread.pidfd.get(), POLLIN, 0});
      names.emplace_back(pid, tid);
    }
  }
  if (waiting.empty() || ::poll(waiting.data(), waiting.size(), 0) <= 0) return;
  for (std::size_t index = 0; index < waiting.size(); ++index) {
    if (waiting[index].revents == 0) continue;
    const auto process = processes_.find(names[index].first);
    kept_threads_ -= process->second.threads.erase(names[index].second);
  }
}

void KnownTasks::keep_only(const std::vector<HostTid>& present) {
  const auto last = present.begin() + static_cast<std::ptrdiff_t>(std::min(present.size(), most_threads_));
  for (auto entry = processes_.begin(); entry != processes_.end();) {
    if (std::find(present.begin(), last, entry->first) != last) {
      ++entry;
      continue;
    }
    kept_threads_ -= entry->second.threads.size();
    entry = processes_.erase(entry);
  }
}

Result<int> KnownTasks::task_dir(HostTid pid) {
  Process& process = processes_[pid];
  if (!process.task_dir) {
    process.task_dir = TRY(sys::open_at(proc_fd_, std::to_string(pid.value) + "/task", O_RDONLY | O_DIRECTORY));
  }
  return process.task_dir.get();
}

Result<std::vector<HostTid>> KnownTasks::threads_of_known(HostTid pid) {
  const auto known = processes_.find(pid);
  if (known == processes_.end() || !known->second.task_dir) return os_error_from(ESRCH, "threads", "unknown process");
  std::vector<HostTid> threads = TRY(read_threads(known->second.task_dir.get(), pid));
  if (threads.empty()) return os_error_from(ESRCH, "threads", "pid " + std::to_string(pid.value));
  return threads;
}

Result<std::vector<HostTid>> KnownTasks::threads_of(HostTid pid) {
  TRY(task_dir(pid));
  Result<std::vector<HostTid>> threads = threads_of_known(pid);
  if (threads.ok()) return threads;
  // The process of that directory is gone; another may have its number.
  const auto gone = processes_.find(pid);
  kept_threads_ -= gone->second.threads.size();
  processes_.erase(gone);
  TRY(task_dir(pid));
  return threads_of_known(pid);
}

bool KnownTasks::has_threads(HostTid pid, std::size_t count) {
  const Result<int> dir = task_dir(pid);
  struct stat info {};
  return dir.ok() && ::fstat(dir.value(), &info) == 0 && info.st_nlink == kLinksOfTaskDir + count;
}

// -1: not kept.
int KnownTasks::children_file(HostTid pid, HostTid tid) {
  const Result<int> dir = task_dir(pid);
  if (!dir.ok()) return -1;
  std::map<HostTid, Thread>& threads = processes_[pid].threads;
  const auto known = threads.find(tid);
  if (known != threads.end()) return known->second.children.get();
  if (kept_threads_ >= most_threads_) return -1;
  Thread thread;
  thread.pidfd = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, tid.value, kPidfdThread)));
  if (!thread.pidfd) return -1;
  Result<UniqueFd> children = sys::open_at(dir.value(), std::to_string(tid.value) + "/children", O_RDONLY);
  if (!children.ok()) return -1;
  thread.children = children.release_value();
  ++kept_threads_;
  return threads.emplace(tid, std::move(thread)).first->second.children.get();
}

Result<std::vector<HostTid>> KnownTasks::children_of(HostTid pid, HostTid tid) {
  const int file = children_file(pid, tid);
  return file >= 0 ? read_children(file) : deltabox::children_of(proc_fd_, pid, tid);
}

}  // namespace deltabox

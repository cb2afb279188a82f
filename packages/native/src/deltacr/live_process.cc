#include "deltacr/live_process.h"

#include <poll.h>

#include <algorithm>

#include "sys/processes.h"

namespace deltabox {

namespace {

// A pidfd becomes readable when its process ends; the number may then belong to another.
bool still_alive(const LiveProcess& process) {
  pollfd waiting{process.pidfd.get(), POLLIN, 0};
  return ::poll(&waiting, 1, 0) == 0;
}

}  // namespace

Result<LiveProcess*> ProcessRegistry::find_or_add(int proc_fd, HostTid pid) {
  std::unique_ptr<LiveProcess>& entry = processes_[pid];
  if (entry && still_alive(*entry)) return entry.get();
  auto fresh = std::make_unique<LiveProcess>();
  fresh->pidfd = TRY(sys::pidfd_open(pid));
  fresh->incarnation = next_++;
  fresh->pid = pid;
  fresh->files = ProcessFiles(proc_fd, pid);
  entry = std::move(fresh);
  return entry.get();
}

Result<LiveProcess*> ProcessRegistry::revive(int proc_fd, HostTid pid, InsidePid inside, Incarnation incarnation) {
  auto fresh = std::make_unique<LiveProcess>();
  fresh->pidfd = TRY(sys::pidfd_open(pid));
  fresh->incarnation = incarnation;
  fresh->pid = pid;
  fresh->files = ProcessFiles(proc_fd, pid);
  fresh->inside = inside;
  std::erase_if(processes_,
                [&](const auto& entry) { return entry.second && entry.second->incarnation == incarnation; });
  std::unique_ptr<LiveProcess>& entry = processes_[pid];
  entry = std::move(fresh);
  return entry.get();
}

LiveProcess* ProcessRegistry::find(Incarnation incarnation) {
  for (auto& [pid, process] : processes_) {
    if (process && process->incarnation == incarnation) return process.get();
  }
  return nullptr;
}

void ProcessRegistry::keep_only(const std::vector<HostTid>& present) {
  std::erase_if(processes_, [&](const auto& entry) {
    return std::find(present.begin(), present.end(), entry.first) == present.end();
  });
}

}  // namespace deltabox

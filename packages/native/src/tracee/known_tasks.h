// Files of /proc of the tasks that a sandbox had at its last freeze, kept open: to open one anew costs more than to
// read it.
//
// A file of /proc names its task for good and never another one that gets the number later; but some of them read as
// empty once their task is gone. forget_ended() therefore asks the kernel (a pidfd each, one poll) which tasks have
// ended, before any of their files is believed.
#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

class KnownTasks {
 public:
  explicit KnownTasks(int proc_fd);

  // At the beginning of each freeze.
  void forget_ended();
  // The leader first, where it is still there.
  Result<std::vector<HostTid>> threads_of(HostTid pid);
  // The same of a process that was there at the last freeze; of none that has its number since.
  Result<std::vector<HostTid>> threads_of_known(HostTid pid);
  // Whether the process has as many threads as that. Much cheaper than a list, and as good while all of them are known
  // to stand still: a thread that ends or is born changes the number.
  bool has_threads(HostTid pid, std::size_t count);
  // Children of one thread; a task's children hang below the thread that made them.
  Result<std::vector<HostTid>> children_of(HostTid pid, HostTid tid);
  // Forgets the files of all processes that are not in `present`, and of those beyond a bound.
  void keep_only(const std::vector<HostTid>& present);

 private:
  struct Thread {
    UniqueFd pidfd;
    UniqueFd children;
  };
  struct Process {
    UniqueFd task_dir;
    std::map<HostTid, Thread> threads;
  };
  Result<int> task_dir(HostTid pid);
  int children_file(HostTid pid, HostTid tid);

  int proc_fd_;
  std::size_t most_threads_;
  std::size_t kept_threads_ = 0;
  std::map<HostTid, Process> processes_;
};

}  // namespace deltabox

// What /proc says of tasks. All paths are relative to a descriptor of the host's /proc, so ids are the engine's own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace deltabox {

struct TaskStatus {
  InsidePid inside;                // last entry of NSpid
  std::int32_t process_group = 0;  // inside
  std::int32_t session = 0;        // inside
  HostTid tracer;                  // 0 when nobody traces it
  int seccomp_filters = 0;
  std::uint64_t ignored_signals = 0;
  std::uint64_t caught_signals = 0;
  std::uint32_t umask = 0;
  std::uint64_t bounding_capabilities = 0;
  std::uint64_t ambient_capabilities = 0;
  std::vector<std::uint32_t> groups;  // supplementary; by the engine's map of ids, which is that of the tasks
  char state = '?';
};

// The leader first, where it is still there.
Result<std::vector<HostTid>> threads_of(int proc_fd, HostTid pid);
// Children of one thread; a task's children hang below the thread that made them.
Result<std::vector<HostTid>> children_of(int proc_fd, HostTid pid, HostTid tid);
Result<TaskStatus> task_status(int proc_fd, HostTid pid);
// The same from a file that is open already.
Result<std::vector<HostTid>> read_threads(int task_dir_fd, HostTid pid);
Result<std::vector<HostTid>> read_children(int children_fd);
Result<TaskStatus> read_task_status(int status_fd);
Result<std::string> read_from_start(int fd);
// Of a zombie, as of wait4(2).
int exit_status(int proc_fd, HostTid pid);
// The space-separated fields of /proc/PID/stat from the third on (the state); empty when the process is gone.
std::vector<std::string> stat_fields(int proc_fd, HostTid pid);
// All descendants of a process, in no order that matters; at most 65,536.
std::vector<HostTid> descendants_of(int proc_fd, HostTid root);
// 'R', 'S', 'D', 'Z', …; 'X' when it is gone.
char task_state(int proc_fd, HostTid pid, HostTid tid);
// Whether it is on its way through exit(2), has come to its end, or is gone.
bool task_is_exiting(int proc_fd, HostTid pid, HostTid tid);

}  // namespace deltabox

// A rename as a task asked for it.
#pragma once

#include <linux/seccomp.h>

#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox::renames {

struct CallSide {
  int dir_fd = 0;  // in the task's table, or AT_FDCWD
  std::string path;
};

struct RenameCall {
  CallSide from;
  CallSide to;
  unsigned flags = 0;
};

// Reads the old path only, which is all that most calls need.
Result<CallSide> read_old_side(HostTid tid, const seccomp_data& data);
Result<RenameCall> read_call(HostTid tid, const seccomp_data& data);

// A path relative to a descriptor of /proc that leads where the task's own would, seen by a process with the same root.
// Absolute paths stay as they are.
std::string path_in_proc(HostTid tid, const CallSide& side);

// Where a path of the call starts. The descriptor is O_PATH.
Result<UniqueFd> open_base(int proc_fd, HostTid tid, const CallSide& side);

// The parent directory of a path and the name in it. The name keeps one trailing slash, which means something.
struct SplitPath {
  std::string parent;
  std::string name;
};
// Fails for paths that end in no name: "/", "." or "..", nothing.
Result<SplitPath> split(const std::string& path);

}  // namespace deltabox::renames

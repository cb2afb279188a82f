// Files that a running process can write without their ctimes telling of each write.
#pragma once

#include <set>
#include <string>

#include "base/ids.h"
#include "base/result.h"

namespace deltabox {

// Adds those that it has mapped shared (the first store to each page tells) or open with O_DIRECT (what overwrites need
// not hold the inode's lock), by the last components of their names. Nothing where the process is gone.
Result<void> add_unseen_writes(int proc_fd, HostTid pid, std::set<std::string>& names);

}  // namespace deltabox

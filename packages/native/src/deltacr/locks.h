// Locks on files (flock(2), fcntl(2)), as /proc/PID/fdinfo tells them: those of a description by any of its slots,
// those of a process (POSIX) by any of its descriptors of the file.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "deltacr/image.h"

namespace deltabox {

// The "lock:" lines of an fdinfo file. Pure.
std::vector<FileLock> parse_locks(const std::string& fdinfo);
Result<std::vector<FileLock>> read_locks(int proc_fd, HostTid pid, int fd);

}  // namespace deltabox

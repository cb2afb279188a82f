// Locks on files (flock(2), fcntl(2)), as /proc/PID/fdinfo tells them: those of a description by any of its slots,
// those of a process (POSIX) by any of its descriptors of the file.
#pragma once

#include <sys/types.h>

#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "deltacr/image.h"

namespace deltabox {

// The "lock:" lines of an fdinfo file. Pure.
std::vector<FileLock> parse_locks(const std::string& fdinfo);
Result<std::vector<FileLock>> read_locks(int proc_fd, HostTid pid, int fd);
// The devices that anything is locked on, of the lines of /proc/locks; of a file on an overlay, the overlay's. Pure.
std::set<dev_t> parse_locked_devices(const std::string& locks);
Result<std::set<dev_t>> read_locked_devices(int proc_fd);

}  // namespace deltabox

#include "deltacr/locks.h"

#include <sys/sysmacros.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "sys/files.h"

namespace deltabox {

namespace {
constexpr std::size_t kMaxLocksBytes = std::size_t{16} << 20;
}

std::vector<FileLock> parse_locks(const std::string& fdinfo) {
  std::vector<FileLock> locks;
  std::istringstream lines(fdinfo);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("lock:")) continue;
    std::istringstream fields(line);
    std::string label, number, kind, mode, access, pid, file, start, end;
    fields >> label >> number >> kind >> mode >> access >> pid >> file >> start >> end;
    FileLock lock;
    if (kind == "FLOCK") {
      lock.kind = LockKind::kFlock;
    } else if (kind == "POSIX") {
      lock.kind = LockKind::kPosix;
    } else if (kind == "OFDLCK") {
      lock.kind = LockKind::kOpenFile;
    } else {
      continue;  // leases
    }
    lock.exclusive = access == "WRITE";
    lock.start = std::strtoll(start.c_str(), nullptr, 10);
    // fcntl(2): a length of 0 reaches to the end of the file, however far it grows.
    lock.length = end == "EOF" ? 0 : std::strtoll(end.c_str(), nullptr, 10) - lock.start + 1;
    locks.push_back(lock);
  }
  return locks;
}

Result<std::vector<FileLock>> read_locks(int proc_fd, HostTid pid, int fd) {
  return parse_locks(TRY(
      sys::read_file_at(proc_fd, std::to_string(pid.value) + "/fdinfo/" + std::to_string(fd), std::size_t{1} << 20)));
}

std::set<dev_t> parse_locked_devices(const std::string& locks) {
  std::set<dev_t> devices;
  std::istringstream lines(locks);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    // The file is the one field with two colons ("fe:00:15712564"); who waits has an arrow before the kind.
    for (std::string field; fields >> field;) {
      unsigned major_number = 0;
      unsigned minor_number = 0;
      unsigned long long inode = 0;
      if (std::sscanf(field.c_str(), "%x:%x:%llu", &major_number, &minor_number, &inode) != 3) continue;
      devices.insert(makedev(major_number, minor_number));
    }
  }
  return devices;
}

Result<std::set<dev_t>> read_locked_devices(int proc_fd) {
  return parse_locked_devices(TRY(sys::read_file_at(proc_fd, "locks", kMaxLocksBytes)));
}

}  // namespace deltabox

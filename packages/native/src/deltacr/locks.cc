#include "deltacr/locks.h"

#include <cstdlib>
#include <sstream>

#include "sys/files.h"

namespace deltabox {

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

}  // namespace deltabox

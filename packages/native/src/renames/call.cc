#include "renames/call.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "sys/files.h"

namespace deltabox::renames {

namespace {

// At most PATH_MAX bytes with the NUL, as the kernel reads it. The part beyond the page may not be mapped.
Result<std::string> read_path(HostTid tid, std::uint64_t address) {
  char buffer[PATH_MAX];
  const std::size_t first = std::min<std::size_t>(sizeof buffer, kPageSize - address % kPageSize);
  const iovec local{buffer, sizeof buffer};
  const iovec remote[2] = {{reinterpret_cast<void*>(address), first},
                           {reinterpret_cast<void*>(address + first), sizeof buffer - first}};
  const ssize_t count = ::process_vm_readv(tid.value, &local, 1, remote, first < sizeof buffer ? 2 : 1, 0);
  if (count < 0) return os_error("process_vm_readv", "tid " + std::to_string(tid.value));
  const bool ends = std::memchr(buffer, '\0', static_cast<std::size_t>(count)) != nullptr;
  if (!ends) return os_error_from(ENAMETOOLONG, "rename");
  return std::string(buffer);
}

Result<CallSide> read_side(HostTid tid, int dir_fd, std::uint64_t address) {
  return CallSide{dir_fd, TRY(read_path(tid, address))};
}

int fd_argument(std::uint64_t argument) { return static_cast<int>(argument); }

}  // namespace

Result<CallSide> read_old_side(HostTid tid, const seccomp_data& data) {
  if (data.nr == SYS_rename) return read_side(tid, AT_FDCWD, data.args[0]);
  return read_side(tid, fd_argument(data.args[0]), data.args[1]);
}

Result<RenameCall> read_call(HostTid tid, const seccomp_data& data) {
  RenameCall call;
  call.from = TRY(read_old_side(tid, data));
  call.to = data.nr == SYS_rename ? TRY(read_side(tid, AT_FDCWD, data.args[1]))
                                  : TRY(read_side(tid, fd_argument(data.args[2]), data.args[3]));
  if (data.nr == SYS_renameat2) call.flags = static_cast<unsigned>(data.args[4]);
  return call;
}

namespace {

std::string base_in_proc(HostTid tid, const CallSide& side) {
  const std::string task = std::to_string(tid.value);
  return side.dir_fd == AT_FDCWD ? task + "/cwd" : task + "/fd/" + std::to_string(side.dir_fd);
}

}  // namespace

std::string path_in_proc(HostTid tid, const CallSide& side) {
  if (side.path.starts_with('/')) return side.path;
  return base_in_proc(tid, side) + "/" + side.path;
}

Result<UniqueFd> open_base(int proc_fd, HostTid tid, const CallSide& side) {
  if (side.path.starts_with('/')) return sys::open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY);
  return sys::open_at(proc_fd, base_in_proc(tid, side), O_PATH | O_DIRECTORY);
}

Result<SplitPath> split(const std::string& path) {
  const std::size_t last = path.find_last_not_of('/');
  if (last == std::string::npos) return os_error_from(EBUSY, "rename", path);
  const std::size_t slash = path.rfind('/', last);
  const std::size_t start = slash == std::string::npos ? 0 : slash + 1;
  SplitPath split;
  split.parent = start == 0 ? "." : path.substr(0, start);
  split.name = path.substr(start, last + 1 - start);
  if (split.name == "." || split.name == "..") return os_error_from(EBUSY, "rename", path);
  if (last + 1 < path.size()) split.name += '/';
  return split;
}

}  // namespace deltabox::renames

#include "sandbox/id_map.h"

#include <fcntl.h>
#include <unistd.h>

#include <sstream>
#include <string>

#include "sys/files.h"

namespace deltabox {

namespace {

// True when our own namespace maps the whole range; inside a container it may not.
bool range_is_mapped() {
  const Result<std::string> text = sys::read_file_at(AT_FDCWD, "/proc/self/uid_map", 65536);
  if (!text.ok()) return false;
  std::istringstream lines(text.value());
  std::uint64_t inside = 0;
  std::uint64_t outside = 0;
  std::uint64_t count = 0;
  while (lines >> inside >> outside >> count) {
    if (inside <= kRangeFirst && kRangeFirst + std::uint64_t{kRangeCount} <= inside + count) return true;
  }
  return false;
}

Result<void> write_map(int proc_fd, pid_t pid, const char* file, std::uint32_t outside, std::uint32_t count) {
  const std::string path = std::to_string(pid) + "/" + file;
  const std::string line = "0 " + std::to_string(outside) + " " + std::to_string(count) + "\n";
  UniqueFd fd = TRY(sys::open_at(proc_fd, path, O_WRONLY));
  if (::write(fd.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) return os_error("write", path);
  return {};
}

}  // namespace

Result<IdMap> choose_id_map() {
  IdMap map;
  map.outside_uid = ::geteuid();
  map.outside_gid = ::getegid();
  if (map.outside_uid == 0 && range_is_mapped()) {
    map.ranged = true;
    map.outside_uid = map.outside_gid = kRangeFirst;
    map.count = kRangeCount;
  }
  return map;
}

Result<void> write_id_maps(int proc_fd, pid_t pid, const IdMap& map) {
  if (!map.ranged) {
    // Without CAP_SETGID in the parent namespace the kernel wants setgroups denied first (user_namespaces(7)).
    TRY(sys::write_file_at(proc_fd, std::to_string(pid) + "/setgroups", "deny"));
  }
  TRY(write_map(proc_fd, pid, "uid_map", map.outside_uid, map.count));
  return write_map(proc_fd, pid, "gid_map", map.outside_gid, map.count);
}

Result<void> write_identity_maps(int proc_fd, pid_t pid, const IdMap& map) {
  TRY(write_map(proc_fd, pid, "uid_map", 0, map.count));
  return write_map(proc_fd, pid, "gid_map", 0, map.count);
}

}  // namespace deltabox

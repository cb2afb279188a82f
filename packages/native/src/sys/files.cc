#include "sys/files.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace deltabox::sys {

namespace {

// A rename or a mount anywhere on the machine lets a lookup of ".." in a bounded one fail with EAGAIN: to be tried
// again, says openat2(2). On a busy machine often.
constexpr int kOpenTries = 1'000;

Result<UniqueFd> open_resolved(int dir_fd, const std::string& path, open_how how) {
  for (int tries = 1;; ++tries) {
    const long fd = ::syscall(SYS_openat2, dir_fd, path.c_str(), &how, sizeof how);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if (errno != EAGAIN || tries == kOpenTries) return os_error("openat2", path);
  }
}

}  // namespace

Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode) {
  const int fd = ::openat(dir_fd, path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return os_error("openat", path);
  return UniqueFd(fd);
}

Result<UniqueFd> open_in_root(int root_fd, const std::string& path, int flags, mode_t mode) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC;
  how.mode = mode;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return open_resolved(root_fd, path, how);
}

Result<UniqueFd> open_beneath(int dir_fd, const std::string& path, int flags) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  return open_resolved(dir_fd, path.empty() ? "." : path, how);
}

Result<void> make_dir_at(int dir_fd, const std::string& path, mode_t mode) {
  if (::mkdirat(dir_fd, path.c_str(), mode) != 0) return os_error("mkdirat", path);
  return {};
}

Result<struct stat> stat_fd(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return os_error("fstat");
  return info;
}

Result<struct statx> statx_at(int dir_fd, const std::string& path, int flags, unsigned mask) {
  struct statx info {};
  if (::statx(dir_fd, path.c_str(), flags, mask, &info) != 0) return os_error("statx", path);
  return info;
}

Result<std::string> read_link_at(int dir_fd, const std::string& path) {
  char buffer[4096];
  const ssize_t length = ::readlinkat(dir_fd, path.c_str(), buffer, sizeof buffer);
  if (length < 0) return os_error("readlinkat", path);
  return std::string(buffer, static_cast<std::size_t>(length));
}

Result<std::string> read_all(int fd, std::size_t max_bytes) {
  std::string data;
  char buffer[16384];
  for (;;) {
    const ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return os_error("read");
    if (count == 0) return data;
    data.append(buffer, static_cast<std::size_t>(count));
    if (data.size() > max_bytes) return make_error(Code::kTooLarge, "file is larger than expected");
  }
}

Result<std::string> read_file_at(int dir_fd, const std::string& path, std::size_t max_bytes) {
  UniqueFd fd = TRY(open_at(dir_fd, path, O_RDONLY));
  return read_all(fd.get(), max_bytes);
}

Result<void> write_all(int fd, const void* data, std::size_t size_bytes) {
  const char* cursor = static_cast<const char*>(data);
  while (size_bytes > 0) {
    const ssize_t count = ::write(fd, cursor, size_bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return os_error("write");
    cursor += count;
    size_bytes -= static_cast<std::size_t>(count);
  }
  return {};
}

Result<void> write_file_at(int dir_fd, const std::string& path, const std::string& data) {
  UniqueFd fd = TRY(open_at(dir_fd, path, O_WRONLY | O_TRUNC | O_CREAT, 0600));
  return write_all(fd.get(), data.data(), data.size());
}

namespace {

struct LinuxDirent64 {
  std::uint64_t d_ino;
  std::int64_t d_off;
  unsigned short d_reclen;
  unsigned char d_type;
  char d_name[];
};

// Calls visit(name) for each entry but "." and ".."; visit returns false to stop. Uses getdents64 directly: the fd is
// rewound first so that a directory held open can be listed again and again.
template <typename Visit>
Result<void> for_each_entry(int dir_fd, Visit visit) {
  if (::lseek(dir_fd, 0, SEEK_SET) < 0) return os_error("lseek");
  alignas(LinuxDirent64) char buffer[8192];
  for (;;) {
    const long count = ::syscall(SYS_getdents64, dir_fd, buffer, sizeof buffer);
    if (count < 0) return os_error("getdents64");
    if (count == 0) return {};
    for (long offset = 0; offset < count;) {
      const auto* entry = reinterpret_cast<const LinuxDirent64*>(buffer + offset);
      offset += entry->d_reclen;
      const char* name = entry->d_name;
      if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) continue;
      if (!visit(name)) return {};
    }
  }
}

}  // namespace

Result<std::vector<std::string>> list_dir(int dir_fd) {
  std::vector<std::string> names;
  TRY(for_each_entry(dir_fd, [&](const char* name) {
    names.emplace_back(name);
    return true;
  }));
  return names;
}

Result<std::vector<int>> list_numeric_dir(int dir_fd) {
  std::vector<int> numbers;
  TRY(for_each_entry(dir_fd, [&](const char* name) {
    if (*name >= '0' && *name <= '9') numbers.push_back(std::atoi(name));
    return true;
  }));
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

bool is_dir_empty(int dir_fd) {
  bool empty = true;
  const Result<void> walked = for_each_entry(dir_fd, [&](const char*) {
    empty = false;
    return false;
  });
  return walked.ok() && empty;
}

Result<std::pair<UniqueFd, UniqueFd>> make_pipe(int flags) {
  int fds[2];
  if (::pipe2(fds, flags | O_CLOEXEC) != 0) return os_error("pipe2");
  return std::pair<UniqueFd, UniqueFd>(UniqueFd(fds[0]), UniqueFd(fds[1]));
}

Result<UniqueFd> duplicate(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return os_error("fcntl(F_DUPFD_CLOEXEC)");
  return UniqueFd(copy);
}

}  // namespace deltabox::sys

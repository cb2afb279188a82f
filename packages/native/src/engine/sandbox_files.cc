#include "engine/sandbox_files.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxPathBytes = 4096;

Result<void> check_path(const std::string& path) {
  if (path.empty() || path[0] != '/' || path.size() >= kMaxPathBytes || path.find('\0') != std::string::npos) {
    return make_error(Code::kInvalidArgument, "not an absolute path: " + path.substr(0, 200),
                      "Give an absolute path inside the sandbox, shorter than 4,096 bytes.");
  }
  return {};
}

Result<UniqueFd> open_parent(int m1_root, const std::string& dir, bool make) {
  Result<UniqueFd> opened = sys::open_in_root(m1_root, dir.empty() ? "/" : dir, O_PATH | O_DIRECTORY);
  if (opened.ok() || !make || opened.error().os_errno != ENOENT) return opened;
  const std::size_t slash = dir.rfind('/');
  UniqueFd above = TRY(open_parent(m1_root, dir.substr(0, slash), true));
  const Result<void> made = sys::make_dir_at(above.get(), dir.substr(slash + 1), 0755);
  if (!made.ok() && made.error().os_errno != EEXIST) return made.error();
  return sys::open_in_root(m1_root, dir, O_PATH | O_DIRECTORY);
}

Result<void> copy_contents(int from_fd, int to_fd) {
  struct stat info = TRY(sys::stat_fd(from_fd));
  off_t offset = 0;
  while (offset < info.st_size) {
    const ssize_t count = ::sendfile(to_fd, from_fd, &offset, static_cast<std::size_t>(info.st_size - offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return os_error("sendfile");
    if (count == 0) return make_error(Code::kInvalidArgument, "the contents shrank while they were read");
  }
  return {};
}

}  // namespace

Result<OpenedFile> open_for_reading(int m1_root, const std::string& path) {
  TRY(check_path(path));
  OpenedFile file;
  // O_NONBLOCK: a FIFO without a writer must not hold the engine before its kind is known.
  file.fd = TRY(sys::open_in_root(m1_root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  const struct stat info = TRY(sys::stat_fd(file.fd.get()));
  if (!S_ISREG(info.st_mode)) {
    return make_error(Code::kInvalidArgument, path + " is not a regular file", "Read regular files only.");
  }
  file.size_bytes = static_cast<std::uint64_t>(info.st_size);
  file.mode = info.st_mode & 07777;
  return file;
}

Result<void> write_whole_file(int m1_root, const std::string& path, int contents_fd, std::uint32_t mode,
                              bool make_parents) {
  TRY(check_path(path));
  const std::size_t slash = path.rfind('/');
  const std::string name = path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") {
    return make_error(Code::kInvalidArgument, path + " does not name a file", "Give the path of a file.");
  }
  UniqueFd parent = TRY(open_parent(m1_root, path.substr(0, slash), make_parents));
  struct stat existing {};
  const bool exists = ::fstatat(parent.get(), name.c_str(), &existing, AT_SYMLINK_NOFOLLOW) == 0;
  if (exists && S_ISDIR(existing.st_mode)) {
    return make_error(Code::kInvalidArgument, path + " is a directory", "Give the path of a file.");
  }
  if (mode == 0) mode = exists && S_ISREG(existing.st_mode) ? existing.st_mode & 07777 : 0644;
  static std::uint64_t counter = 0;
  const std::string temporary = ".deltabox-write-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
  UniqueFd file = TRY(sys::open_at(parent.get(), temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  Result<void> outcome = copy_contents(contents_fd, file.get());
  if (outcome.ok() && ::fchmod(file.get(), mode & 07777) != 0) outcome = os_error("fchmod", path);
  if (outcome.ok() && exists && S_ISREG(existing.st_mode)) (void)::fchown(file.get(), existing.st_uid, existing.st_gid);
  if (outcome.ok() && ::renameat(parent.get(), temporary.c_str(), parent.get(), name.c_str()) != 0) {
    outcome = os_error("renameat", path);
  }
  if (!outcome.ok()) ::unlinkat(parent.get(), temporary.c_str(), 0);
  return outcome;
}

}  // namespace deltabox

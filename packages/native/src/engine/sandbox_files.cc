#include "engine/sandbox_files.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "engine/inside_paths.h"
#include "sys/files.h"

namespace deltabox {

namespace {

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
  Result<UniqueFd> opened = sys::open_in_root(m1_root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!opened.ok()) {
    Error error = opened.release_error();
    error.subject = printable(path);
    return error;
  }
  file.fd = opened.release_value();
  const struct stat info = TRY(sys::stat_fd(file.fd.get()));
  if (!S_ISREG(info.st_mode)) {
    return make_error(Code::kInvalidArgument, printable(path) + " is not a regular file", "Read regular files only.");
  }
  file.size_bytes = static_cast<std::uint64_t>(info.st_size);
  file.mode = info.st_mode & 07777;
  return file;
}

std::string temporary_name() {
  static std::uint64_t counter = 0;
  return std::string(kTemporaryPrefix) + std::to_string(::getpid()) + "-" + std::to_string(counter++);
}

Result<void> append_contents(int contents_fd, int file_fd) { return copy_contents(contents_fd, file_fd); }

Result<void> check_replaceable(const NamedEntry& entry) {
  struct stat existing {};
  if (::fstatat(entry.parent.get(), entry.name.c_str(), &existing, AT_SYMLINK_NOFOLLOW) != 0) return {};
  if (!S_ISDIR(existing.st_mode)) return {};
  return make_error(Code::kInvalidArgument, printable(entry.name) + " is a directory", "Give the path of a file.");
}

Result<void> put_in_place(const NamedEntry& entry, const std::string& temporary, int file_fd, std::uint32_t mode) {
  TRY(check_replaceable(entry));
  struct stat existing {};
  const bool replaces_file = ::fstatat(entry.parent.get(), entry.name.c_str(), &existing, AT_SYMLINK_NOFOLLOW) == 0 &&
                             S_ISREG(existing.st_mode);
  if (mode == 0) mode = replaces_file ? existing.st_mode & 07777 : 0644;
  // Owner first: a change of it clears the bits that give its privileges.
  if (replaces_file) (void)::fchown(file_fd, existing.st_uid, existing.st_gid);
  if (::fchmod(file_fd, mode & 07777) != 0) return os_error("fchmod", printable(entry.name));
  if (::renameat(entry.parent.get(), temporary.c_str(), entry.parent.get(), entry.name.c_str()) != 0) {
    return os_error("renameat", printable(entry.name));
  }
  return {};
}

Result<void> write_whole_file(int m1_root, const std::string& path, int contents_fd, std::uint32_t mode,
                              bool make_parents) {
  const NamedEntry entry = TRY(open_parent_inside(m1_root, path, make_parents));
  TRY(check_replaceable(entry));
  const std::string temporary = temporary_name();
  UniqueFd file = TRY(sys::open_at(entry.parent.get(), temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  Result<void> outcome = copy_contents(contents_fd, file.get());
  if (outcome.ok()) outcome = put_in_place(entry, temporary, file.get(), mode);
  if (!outcome.ok()) ::unlinkat(entry.parent.get(), temporary.c_str(), 0);
  return outcome;
}

}  // namespace deltabox

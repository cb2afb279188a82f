#include "engine/sandbox_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <vector>

#include "base/clock.h"
#include "engine/inside_paths.h"
#include "renames/move_directory.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxReplyBytes = 4u << 20;  // a frame holds 16 MiB
constexpr std::size_t kEntryBytes = 80;           // of one entry on the wire, beside its names
constexpr std::uint64_t kRemoveNs = 50'000'000;   // then others have their turn

v1::FileInfo to_info(int dir_fd, const std::string& name, const struct stat& info, int at_flags) {
  v1::FileInfo entry;
  entry.set_name(name);
  entry.set_mode(info.st_mode);
  entry.set_size_bytes(static_cast<std::uint64_t>(info.st_size));
  entry.set_uid(info.st_uid);
  entry.set_gid(info.st_gid);
  entry.set_modified_at_ns(info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec);
  entry.set_links(info.st_nlink);
  if (S_ISLNK(info.st_mode)) {
    const Result<std::string> target = sys::read_link_at(dir_fd, at_flags == AT_EMPTY_PATH ? "" : name);
    if (target.ok()) entry.set_link_target(target.value());
  }
  return entry;
}

Error with_path(Error error, const std::string& path) {
  error.subject = printable(path);
  return error;
}

Error volume_error(const std::string& path) {
  return make_error(Code::kInvalidArgument, printable(path) + " is the root of a volume",
                    "Name something inside it; volumes themselves stay where they are.");
}

std::uint64_t mount_of(int fd) {
  const Result<struct statx> info = sys::statx_at(fd, "", AT_EMPTY_PATH, STATX_MNT_ID);
  return info.ok() ? info.value().stx_mnt_id : 0;
}

// Removes a directory with one descriptor open at a time, whatever its depth. On the way up it makes sure that ".." is
// where it came from: a program inside may move directories meanwhile.
class TreeRemoval {
 public:
  explicit TreeRemoval(UniqueFd directory) : current_(std::move(directory)), mount_(mount_of(current_.get())) {}

  // True when all that was there is gone, false when the time is over.
  Result<bool> run() {
    left_ = TRY(sys::list_dir(current_.get()));
    for (;;) {
      if (left_.empty()) {
        if (above_.empty()) return true;
        TRY(ascend());
        continue;
      }
      if (until_ns_ != 0 && monotonic_ns() > until_ns_) return false;
      const std::string name = std::move(left_.back());
      left_.pop_back();
      if (::unlinkat(current_.get(), name.c_str(), 0) == 0 || errno == ENOENT) {
        start_clock();
        continue;
      }
      if (errno != EISDIR && errno != EPERM) return os_error("unlinkat", printable(name));
      if (::unlinkat(current_.get(), name.c_str(), AT_REMOVEDIR) == 0) {
        start_clock();
        continue;
      }
      if (errno != ENOTEMPTY && errno != EEXIST) return os_error("unlinkat", printable(name));
      TRY(descend(name));
    }
  }

 private:
  struct Level {
    std::string name;  // of the directory that was entered
    struct stat parent {};
    std::vector<std::string> left;  // in the parent
  };

  // The way down does not count: each call has to go it again, and must get on.
  void start_clock() {
    if (until_ns_ == 0) until_ns_ = monotonic_ns() + kRemoveNs;
  }

  Result<void> descend(const std::string& name) {
    const struct stat parent = TRY(sys::stat_fd(current_.get()));
    UniqueFd child = TRY(sys::open_at(current_.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (mount_of(child.get()) != mount_) return volume_error(name);
    above_.push_back({name, parent, std::move(left_)});
    current_ = std::move(child);
    left_ = TRY(sys::list_dir(current_.get()));
    return {};
  }

  Result<void> ascend() {
    Level level = std::move(above_.back());
    above_.pop_back();
    UniqueFd parent = TRY(sys::open_at(current_.get(), "..", O_RDONLY | O_DIRECTORY));
    const struct stat found = TRY(sys::stat_fd(parent.get()));
    if (found.st_dev != level.parent.st_dev || found.st_ino != level.parent.st_ino) {
      return make_error(Code::kBusy, "the directory " + printable(level.name) + " was moved while it was removed",
                        "Try again when nothing in the sandbox works on it.");
    }
    current_ = std::move(parent);
    left_ = std::move(level.left);
    start_clock();
    if (::unlinkat(current_.get(), level.name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT && errno != ENOTEMPTY) {
      return os_error("unlinkat", printable(level.name));
    }
    return {};
  }

  UniqueFd current_;
  std::uint64_t mount_;
  std::uint64_t until_ns_ = 0;     // 0: nothing was removed yet
  std::vector<std::string> left_;  // in the current directory
  std::vector<Level> above_;
};

}  // namespace

Result<v1::FileInfo> file_info(int m1_root, const std::string& path) {
  TRY(check_path(path));
  Result<UniqueFd> opened = sys::open_in_root(m1_root, path, O_PATH | O_NOFOLLOW);
  if (!opened.ok()) return with_path(opened.release_error(), path);
  const struct stat info = TRY(sys::stat_fd(opened.value().get()));
  v1::FileInfo entry = to_info(opened.value().get(), "", info, AT_EMPTY_PATH);
  const std::size_t end = path.find_last_not_of('/');
  if (end != std::string::npos) entry.set_name(path.substr(path.rfind('/', end) + 1, end - path.rfind('/', end)));
  return entry;
}

Result<v1::DirEntries> list_directory(int m1_root, const std::string& path, const std::string& after) {
  TRY(check_path(path));
  Result<UniqueFd> opened = sys::open_in_root(m1_root, path, O_RDONLY | O_DIRECTORY);
  if (!opened.ok()) return with_path(opened.release_error(), path);
  const int dir_fd = opened.value().get();
  std::vector<std::string> names = TRY(sys::list_dir(dir_fd));
  std::sort(names.begin(), names.end());
  v1::DirEntries entries;
  std::size_t bytes = 0;
  for (auto name = std::upper_bound(names.begin(), names.end(), after); name != names.end(); ++name) {
    if (bytes > kMaxReplyBytes) {
      entries.set_more(true);
      break;
    }
    struct stat info {};
    if (::fstatat(dir_fd, name->c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;  // gone meanwhile
      return os_error("fstatat", printable(*name));
    }
    v1::FileInfo& entry = *entries.add_entries();
    entry = to_info(dir_fd, *name, info, 0);
    bytes += kEntryBytes + entry.name().size() + entry.link_target().size();
  }
  return entries;
}

Result<bool> make_directory(int m1_root, const std::string& path, std::uint32_t mode) {
  TRY(check_path(path));
  const Result<UniqueFd> there = sys::open_in_root(m1_root, path, O_PATH | O_DIRECTORY);
  if (there.ok()) return false;
  const NamedEntry entry = TRY(open_parent_inside(m1_root, path, true));
  const Result<void> made = sys::make_dir_at(entry.parent.get(), entry.name, mode);
  if (made.ok()) {
    // mkdirat(2) applied the engine's umask.
    if (::fchmodat(entry.parent.get(), entry.name.c_str(), mode, 0) != 0) return os_error("fchmodat", printable(path));
    return true;
  }
  if (made.error().os_errno == EEXIST) {
    return make_error(Code::kAlreadyExists, printable(path) + " is there and is not a directory",
                      "Choose another path, or remove it first.");
  }
  return with_path(made.error(), path);
}

Result<void> rename_entry(int m1_root, const std::string& from, const std::string& to) {
  const NamedEntry source = TRY(open_parent_inside(m1_root, from, false));
  const NamedEntry target = TRY(open_parent_inside(m1_root, to, false));
  if (::renameat(source.parent.get(), source.name.c_str(), target.parent.get(), target.name.c_str()) == 0) return {};
  Error error = os_error("renameat", printable(from) + " to " + printable(to));
  const renames::DirectoryMove move{source.parent.get(), source.name, target.parent.get(), target.name};
  if (error.os_errno == EXDEV && renames::may_move(move)) {
    Result<void> moved = renames::move_directory(move);
    if (moved.ok() || moved.error().os_errno == EXDEV || moved.error().os_errno == EBUSY) return moved;
    error.os_errno = moved.error().os_errno;
  }
  switch (error.os_errno) {
    case EXDEV:
      error.code = Code::kUnsupported;
      error.message = printable(from) + " can't be renamed to " + printable(to) + ": they lie on different volumes";
      error.next_step = "Run `mv` inside the sandbox: it copies what can't be renamed.";
      break;
    case EEXIST:
    case ENOTEMPTY:
      error.code = Code::kAlreadyExists;
      error.next_step = "Remove the directory at the new path first.";
      break;
    case EINVAL:
      error.code = Code::kInvalidArgument;
      error.next_step = "A directory can't be moved into itself.";
      break;
    case EBUSY:
      return volume_error(from);
    default:
      break;
  }
  return error;
}

Result<bool> remove_entry(int m1_root, const std::string& path) {
  const NamedEntry entry = TRY(open_parent_inside(m1_root, path, false));
  const Result<UniqueFd> itself = sys::open_in_root(m1_root, path, O_PATH | O_NOFOLLOW);
  if (!itself.ok()) return with_path(itself.error(), path);
  if (mount_of(itself.value().get()) != mount_of(entry.parent.get())) return volume_error(path);
  if (::unlinkat(entry.parent.get(), entry.name.c_str(), 0) == 0) return true;
  if (errno == EBUSY) return volume_error(path);
  if (errno != EISDIR && errno != EPERM) return os_error("unlinkat", printable(path));
  UniqueFd directory = TRY(sys::open_at(entry.parent.get(), entry.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (mount_of(directory.get()) != mount_of(entry.parent.get())) return volume_error(path);
  TreeRemoval removal(std::move(directory));
  if (!TRY(removal.run())) return false;
  if (::unlinkat(entry.parent.get(), entry.name.c_str(), AT_REMOVEDIR) == 0) return true;
  if (errno == EBUSY) return volume_error(path);
  // Something was put into it meanwhile.
  if (errno == ENOTEMPTY || errno == EEXIST) return false;
  return os_error("unlinkat", printable(path));
}

Result<void> remove_contents(UniqueFd directory) {
  for (;;) {
    TreeRemoval removal(TRY(sys::open_at(directory.get(), ".", O_RDONLY | O_DIRECTORY)));
    if (TRY(removal.run())) return {};
  }
}

}  // namespace deltabox

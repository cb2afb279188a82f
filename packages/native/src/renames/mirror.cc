#include "renames/mirror.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "sys/files.h"

namespace deltabox::renames {

namespace {

constexpr int kMaxDepth = 400;                  // two descriptors each; 1,024 is the least limit on them
constexpr std::size_t kMaxEntries = 4'000'000;  // about 100 bytes each in this process
constexpr std::size_t kMaxXattrBytes = 65536;   // XATTR_LIST_MAX and XATTR_SIZE_MAX
constexpr const char* kAccessAcl = "system.posix_acl_access";
constexpr const char* kDefaultAcl = "system.posix_acl_default";

Result<UniqueFd> open_dir(int parent, const std::string& name) {
  return sys::open_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

Result<std::set<std::string>> xattr_names(int fd) {
  const ssize_t needed = ::flistxattr(fd, nullptr, 0);
  if (needed == 0 || (needed < 0 && errno == EOPNOTSUPP)) return std::set<std::string>();
  std::string list(kMaxXattrBytes, '\0');
  const ssize_t size = ::flistxattr(fd, list.data(), list.size());
  if (size < 0) return os_error("flistxattr");
  std::set<std::string> names;
  for (std::size_t at = 0; at < static_cast<std::size_t>(size);) {
    const std::string name(list.c_str() + at);
    at += name.size() + 1;
    names.insert(name);
  }
  return names;
}

Result<void> copy_xattrs(int from_fd, int to_fd) {
  const std::set<std::string> names = TRY(xattr_names(from_fd));
  std::string value(names.empty() ? 0 : kMaxXattrBytes, '\0');
  for (const std::string& name : names) {
    const ssize_t size = ::fgetxattr(from_fd, name.c_str(), value.data(), value.size());
    if (size < 0 && errno == ENODATA) continue;
    if (size < 0) return os_error("fgetxattr", name);
    if (::fsetxattr(to_fd, name.c_str(), value.data(), static_cast<std::size_t>(size), 0) != 0) {
      return os_error("fsetxattr", name);
    }
  }
  // A new directory inherits its parent's ACLs.
  for (const char* acl : {kAccessAcl, kDefaultAcl}) {
    if (names.contains(acl) || ::fremovexattr(to_fd, acl) == 0) continue;
    if (errno != ENODATA && errno != EOPNOTSUPP) return os_error("fremovexattr", acl);
  }
  return {};
}

Result<void> copy_attributes(int from_fd, const struct stat& from, int to_fd) {
  struct stat to = TRY(sys::stat_fd(to_fd));
  if ((from.st_uid != to.st_uid || from.st_gid != to.st_gid) && ::fchown(to_fd, from.st_uid, from.st_gid) != 0) {
    return os_error("fchown");
  }
  TRY(copy_xattrs(from_fd, to_fd));
  if (::fchmod(to_fd, from.st_mode & 07777) != 0) return os_error("fchmod");
  // Without the right to it the kernel drops the set-group-id bit and says nothing.
  to = TRY(sys::stat_fd(to_fd));
  if (to.st_mode != from.st_mode) return os_error_from(EPERM, "fchmod");
  const timespec times[2] = {from.st_atim, from.st_mtim};
  if (::futimens(to_fd, times) != 0) return os_error("futimens");
  return {};
}

class Mirror {
 public:
  explicit Mirror(int root) : root_(root) {}
  Result<void> fill(int from_fd, int to_fd, const std::string& path, int depth, MirroredDirectory& mirrored);

 private:
  Result<void> add_directory(int from_fd, int to_fd, const std::string& name, const std::string& path, int depth,
                             MirroredDirectory& mirrored);
  Result<void> add_link(int from_fd, int to_fd, const std::string& name, const std::string& path,
                        const struct stat& info, MirroredDirectory& mirrored);

  int root_;
  std::size_t entries_ = 0;
  // Where the first name of a file with several was linked to, relative to the root. overlayfs copies each name of a
  // lower file up by itself, which would part them.
  std::map<std::pair<dev_t, ino_t>, std::string> first_names_;
};

// The sweep removes the directory's entries: find out now whether it may. (A sticky directory of somebody else's is
// refused by copy_attributes, since it can't be given to them.)
Result<void> check_removable(int dir_fd) {
  if (::syscall(SYS_faccessat2, dir_fd, "", W_OK | X_OK, AT_EMPTY_PATH | AT_EACCESS) != 0)
    return os_error("faccessat2");
  return {};
}

Result<void> Mirror::fill(int from_fd, int to_fd, const std::string& path, int depth, MirroredDirectory& mirrored) {
  if (depth > kMaxDepth) return os_error_from(EXDEV, "rename", "too deep");
  const struct stat from = TRY(sys::stat_fd(from_fd));
  const std::vector<std::string> names = TRY(sys::list_dir(from_fd));
  entries_ += names.size();
  if (entries_ > kMaxEntries) return os_error_from(EXDEV, "rename", "too many files");
  if (!names.empty()) TRY(check_removable(from_fd));
  for (const std::string& name : names) {
    struct stat info {};
    if (::fstatat(from_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;  // removed since it was listed
      return os_error("fstatat", name);
    }
    const std::string below = path.empty() ? name : path + "/" + name;
    Result<void> added = S_ISDIR(info.st_mode) ? add_directory(from_fd, to_fd, name, below, depth, mirrored)
                                               : add_link(from_fd, to_fd, name, below, info, mirrored);
    // Removed since it was seen, or a directory where a file was: the sweep looks again.
    if (!added.ok() && added.error().os_errno != ENOENT && added.error().os_errno != ENOTDIR) return added;
  }
  return copy_attributes(from_fd, from, to_fd);
}

Result<void> Mirror::add_directory(int from_fd, int to_fd, const std::string& name, const std::string& path, int depth,
                                   MirroredDirectory& mirrored) {
  UniqueFd from = TRY(open_dir(from_fd, name));
  TRY(sys::make_dir_at(to_fd, name, 0700));
  UniqueFd to = TRY(open_dir(to_fd, name));
  auto directory = std::make_unique<MirroredDirectory>();
  TRY(fill(from.get(), to.get(), path, depth + 1, *directory));
  mirrored.entries[name].directory = std::move(directory);
  return {};
}

Result<void> Mirror::add_link(int from_fd, int to_fd, const std::string& name, const std::string& path,
                              const struct stat& info, MirroredDirectory& mirrored) {
  const auto link = [&](int dir_fd, const std::string& target) -> Result<ino_t> {
    if (::linkat(dir_fd, target.c_str(), to_fd, name.c_str(), 0) != 0) return os_error("linkat", name);
    struct stat linked {};
    if (::fstatat(to_fd, name.c_str(), &linked, AT_SYMLINK_NOFOLLOW) != 0) return os_error("fstatat", name);
    return linked.st_ino;
  };
  if (info.st_nlink > 1) {
    const auto [first, is_new] = first_names_.try_emplace({info.st_dev, info.st_ino}, path);
    if (!is_new) {
      const Result<ino_t> linked = link(root_, first->second);
      if (linked.ok()) {
        mirrored.entries[name] = {info.st_ino, linked.value(), true, nullptr};
        return {};
      }
    }
  }
  mirrored.entries[name] = {info.st_ino, TRY(link(from_fd, name)), false, nullptr};
  return {};
}

}  // namespace

Result<MirroredDirectory> mirror_tree(int from_fd, int to_fd) {
  MirroredDirectory mirrored;
  TRY(Mirror(to_fd).fill(from_fd, to_fd, "", 0, mirrored));
  return mirrored;
}

void discard_tree(int dir_fd) {
  // A mirrored directory may have got a mode that shuts its owner out.
  (void)::fchmod(dir_fd, 0700);
  const Result<std::vector<std::string>> names = sys::list_dir(dir_fd);
  if (!names.ok()) return;
  for (const std::string& name : names.value()) {
    if (::unlinkat(dir_fd, name.c_str(), 0) == 0 || errno != EISDIR) continue;
    const Result<UniqueFd> child = open_dir(dir_fd, name);
    if (child.ok()) discard_tree(child.value().get());
    (void)::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR);
  }
}

}  // namespace deltabox::renames

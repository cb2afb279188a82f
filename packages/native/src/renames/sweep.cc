#include "renames/sweep.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "sys/files.h"

namespace deltabox::renames {

namespace {

constexpr int kMaxRounds = 64;  // a writer that makes new names faster than they can be moved
constexpr const char* kBinName = "0";

class Sweep {
 public:
  explicit Sweep(int bin_fd) : bin_fd_(bin_fd) {}
  Result<void> tree(int from_fd, int to_fd, const MirroredDirectory& mirrored);

 private:
  Result<void> directory(int from_fd, int to_fd, const std::string& name, const MirroredDirectory::Entry* entry);
  Result<void> other(int from_fd, int to_fd, const std::string& name, const struct stat& info,
                     const MirroredDirectory::Entry* entry);

  int bin_fd_;
  std::size_t newcomers_ = 0;  // names that moved over because they are newer than the mirror
};

Result<void> Sweep::tree(int from_fd, int to_fd, const MirroredDirectory& mirrored) {
  const struct stat before = TRY(sys::stat_fd(to_fd));
  const std::size_t newcomers_before = newcomers_;
  for (int round = 0; round < kMaxRounds; ++round) {
    const std::vector<std::string> names = TRY(sys::list_dir(from_fd));
    if (names.empty()) {
      const timespec times[2] = {before.st_atim, before.st_mtim};
      if (newcomers_ == newcomers_before && ::futimens(to_fd, times) != 0) return os_error("futimens");
      return {};
    }
    for (const std::string& name : names) {
      const auto found = mirrored.entries.find(name);
      const MirroredDirectory::Entry* entry = found != mirrored.entries.end() ? &found->second : nullptr;
      struct stat info {};
      Result<void> removed;
      if (::fstatat(from_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
        removed = os_error("fstatat", name);
      } else if (S_ISDIR(info.st_mode)) {
        removed = directory(from_fd, to_fd, name, entry);
      } else {
        removed = other(from_fd, to_fd, name, info, entry);
      }
      // Somebody else was faster, or put something else in its place: the next round sees.
      if (removed.ok()) continue;
      const int reason = removed.error().os_errno;
      if (reason != ENOENT && reason != ENOTEMPTY && reason != ENOTDIR && reason != EISDIR) return removed;
    }
  }
  return os_error_from(EBUSY, "rename", "names are made in the old directory all the time");
}

Result<void> Sweep::directory(int from_fd, int to_fd, const std::string& name, const MirroredDirectory::Entry* entry) {
  static const MirroredDirectory kNothing;
  if (entry == nullptr || entry->directory == nullptr) {
    // Made since, so it lies in the upper layer alone and moves in one step.
    ++newcomers_;
    if (::renameat2(from_fd, name.c_str(), to_fd, name.c_str(), RENAME_NOREPLACE) == 0) return {};
    if (errno != EEXIST) return os_error("renameat2", name);
  }
  const UniqueFd from = TRY(sys::open_at(from_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const UniqueFd to = TRY(sys::open_at(to_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY(tree(from.get(), to.get(), entry != nullptr && entry->directory ? *entry->directory : kNothing));
  if (::unlinkat(from_fd, name.c_str(), AT_REMOVEDIR) != 0) return os_error("unlinkat", name);
  return {};
}

Result<void> Sweep::other(int from_fd, int to_fd, const std::string& name, const struct stat& info,
                          const MirroredDirectory::Entry* entry) {
  if (entry != nullptr && entry->linked_to_other_name && entry->original_inode == info.st_ino) {
    // A second name of a lower file. Moving it would copy it up whole, only to remove it.
    if (::unlinkat(from_fd, name.c_str(), 0) != 0) return os_error("unlinkat", name);
    return {};
  }
  if (::renameat(from_fd, name.c_str(), bin_fd_, kBinName) != 0) return os_error("renameat", name);
  struct stat taken {};
  if (::fstatat(bin_fd_, kBinName, &taken, AT_SYMLINK_NOFOLLOW) != 0) return os_error("fstatat", name);
  const bool is_original = entry != nullptr && (taken.st_ino == entry->inode || taken.st_ino == entry->original_inode);
  struct stat mirrored {};
  const bool is_there = ::fstatat(to_fd, name.c_str(), &mirrored, AT_SYMLINK_NOFOLLOW) == 0;
  if (is_original && is_there && mirrored.st_ino == entry->inode) {
    // The old name itself goes to the new place, and with it every descriptor and mapping that was opened by it.
    // Renaming it over another name of the same file would do nothing.
    if (::unlinkat(to_fd, name.c_str(), 0) != 0) return os_error("unlinkat", name);
    if (::renameat(bin_fd_, kBinName, to_fd, name.c_str()) != 0) return os_error("renameat", name);
    return {};
  }
  if (!is_original) ++newcomers_;
  // Newer than the mirror's: it takes that one's place. An original whose new name is gone or replaced goes.
  if (!is_original && ::renameat(bin_fd_, kBinName, to_fd, name.c_str()) != 0) return os_error("renameat", name);
  if (::unlinkat(bin_fd_, kBinName, 0) != 0 && errno != ENOENT) return os_error("unlinkat", name);
  return {};
}

}  // namespace

Result<void> sweep_tree(int from_fd, int to_fd, const MirroredDirectory& mirrored, int bin_fd) {
  return Sweep(bin_fd).tree(from_fd, to_fd, mirrored);
}

}  // namespace deltabox::renames

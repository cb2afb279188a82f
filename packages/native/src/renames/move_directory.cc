#include "renames/move_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/unique_fd.h"
#include "renames/mirror.h"
#include "renames/sweep.h"
#include "sys/files.h"

namespace deltabox::renames {

namespace {

constexpr const char* kHiddenPrefix = ".deltabox-rename-";
constexpr int kMaxRounds = 64;  // a writer that makes new names faster than they can be moved

// An empty directory beside the destination, gone with its owner unless it was published.
class HiddenDirectory {
 public:
  static Result<HiddenDirectory> create(int parent) {
    std::array<unsigned char, 8> random{};
    if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
      return os_error("getrandom");
    HiddenDirectory made(parent);
    made.name_ = kHiddenPrefix;
    for (const unsigned char byte : random) {
      constexpr char kDigits[] = "0123456789abcdef";
      made.name_ += kDigits[byte >> 4];
      made.name_ += kDigits[byte & 15];
    }
    TRY(sys::make_dir_at(parent, made.name_, 0700));
    made.exists_ = true;
    made.dir_ = TRY(sys::open_at(parent, made.name_, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    // Who may write the parent could have put another directory there.
    const struct stat info = TRY(sys::stat_fd(made.dir_.get()));
    const auto own_uid = static_cast<uid_t>(::setfsuid(static_cast<uid_t>(-1)));
    if ((info.st_mode & 0777) != 0700 || info.st_uid != own_uid) return os_error_from(EXDEV, "rename", made.name_);
    return made;
  }
  HiddenDirectory(HiddenDirectory&& other) noexcept
      : parent_(other.parent_),
        name_(std::move(other.name_)),
        dir_(std::move(other.dir_)),
        exists_(std::exchange(other.exists_, false)) {}
  HiddenDirectory& operator=(HiddenDirectory&&) = delete;
  HiddenDirectory(const HiddenDirectory&) = delete;
  HiddenDirectory& operator=(const HiddenDirectory&) = delete;
  ~HiddenDirectory() {
    if (!exists_) return;
    if (dir_) discard_tree(dir_.get());
    (void)::unlinkat(parent_, name_.c_str(), AT_REMOVEDIR);
  }

  int fd() const { return dir_.get(); }
  Result<void> publish(const std::string& name, unsigned flags) {
    if (::renameat2(parent_, name_.c_str(), parent_, name.c_str(), flags) != 0) return os_error("renameat2", name);
    exists_ = false;
    return {};
  }

 private:
  explicit HiddenDirectory(int parent) : parent_(parent) {}
  int parent_;
  std::string name_;
  UniqueFd dir_;
  bool exists_ = false;
};

// The kernel would find out at the end, when all the work is done.
Result<void> check_destination(const DirectoryMove& move) {
  const Result<UniqueFd> existing = sys::open_at(move.new_parent, move.new_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (existing.ok() && !sys::is_dir_empty(existing.value().get())) {
    return os_error_from(ENOTEMPTY, "rename", move.new_name);
  }
  return {};
}

Result<void> carry_out(const DirectoryMove& move) {
  TRY(check_destination(move));
  const UniqueFd from = TRY(sys::open_at(move.old_parent, move.old_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const HiddenDirectory bin = TRY(HiddenDirectory::create(move.new_parent));
  HiddenDirectory mirror = TRY(HiddenDirectory::create(move.new_parent));
  const MirroredDirectory mirrored = TRY(mirror_tree(from.get(), mirror.fd()));
  TRY(mirror.publish(move.new_name, move.flags));
  // The destination is there: from now on, no error may look as if nothing had happened.
  Result<void> swept;
  for (int round = 0; round < kMaxRounds; ++round) {
    swept = sweep_tree(from.get(), mirror.fd(), mirrored, bin.fd());
    if (!swept.ok()) break;
    if (::unlinkat(move.old_parent, move.old_name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return {};
    swept = os_error("unlinkat", move.old_name);
    if (swept.error().os_errno != ENOTEMPTY) break;  // a name was made in the last moment
  }
  return os_error_from(EBUSY, "rename", swept.error().describe());
}

// What rename(2) can say. The rest (rights in the tree, depth, kinds of files that can't be linked) is what the steps
// need and one step would not.
bool is_meaningful(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EIO:
    case ENOMEM:
    case EROFS:
    case ENOTEMPTY:
    case EEXIST:
    case ENOTDIR:
    case EISDIR:
    case ENOENT:
    case EBUSY:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool may_move(const DirectoryMove& move) {
  if ((move.flags & ~unsigned{RENAME_NOREPLACE}) != 0) return false;
  const Result<struct statx> from = sys::statx_at(move.old_parent, "", AT_EMPTY_PATH, STATX_MNT_ID);
  const Result<struct statx> to = sys::statx_at(move.new_parent, "", AT_EMPTY_PATH, STATX_MNT_ID);
  return from.ok() && to.ok() && from.value().stx_mnt_id == to.value().stx_mnt_id;
}

Result<void> move_directory(const DirectoryMove& move) {
  Result<void> moved = carry_out(move);
  if (moved.ok() || is_meaningful(moved.error().os_errno)) return moved;
  return os_error_from(EXDEV, "rename", moved.error().describe());
}

}  // namespace deltabox::renames

#include "deltafs/copies_ahead.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "sys/files.h"

namespace deltabox {

namespace {

// A smaller one is copied in less time than it takes to look whether that was done.
constexpr std::int64_t kWorthBytes = std::int64_t{256} * 1024;
// To freeze all tasks once more takes about as long as to copy this.
constexpr std::int64_t kWorthFreezingBytes = std::int64_t{4} << 20;
constexpr std::size_t kMostFiles = 32;  // each is open until its hand-over, and so is its copy

// Returns once no write(2) is under way that had changed the file's version before.
void wait_for_writes(int fd) { (void)::lseek(fd, 0, SEEK_DATA); }

Result<void> copy(int layer_dir, AheadCopy& file) {
  const std::string name = copy_name_of(file.inode);
  UniqueFd to = TRY(sys::open_at(layer_dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  const Result<std::uint64_t> copied = sys::copy_file_data(file.file.get(), to.get());
  if (!copied.ok() || copied.value() == 0) {
    ::unlinkat(layer_dir, name.c_str(), 0);
    return copied.ok() ? Result<void>() : copied.error();
  }
  file.copy = std::move(to);
  file.copy_name = name;
  file.copied_bytes = copied.value();
  return {};
}

Result<void> compare(AheadCopy& file) {
  UniqueFd wanted = TRY(sys::open_beneath(file.target_dir->get(), file.target_path, O_RDONLY | O_NOFOLLOW));
  file.differences = TRY(sys::find_differences(wanted.get(), file.file.get()));
  return {};
}

bool can_tell(const Volume& volume) { return volume.ctimes_tell_changes() && volume.ctimes_tell_stores(); }

// The layers below hold what the inode has.
bool is_sealed(const Volume& volume, const AheadCopy& file) {
  const auto sealed = volume.sealed_copies().find(file.inode);
  return sealed != volume.sealed_copies().end() && sealed->second.version == file.version;
}

}  // namespace

std::string copy_name_of(const InodeId& inode) {
  return std::string("../") + kCopyPrefix + std::to_string(inode.number);
}

CopiesAhead::~CopiesAhead() {
  for (const AheadCopy& file : files_) {
    if (!file.copy_name.empty()) ::unlinkat(layer_dir_->get(), file.copy_name.c_str(), 0);
  }
}

Result<void> CopiesAhead::look(const Volume& volume, const std::vector<KeptFile>& files) {
  layer_dir_ = volume.writable_dir();
  live_.emplace(volume.live_stack());
  for (const KeptFile& kept : files) (void)TRY(live_->find(kept.path));
  if (!can_tell(volume) || volume.copies_share_blocks()) return {};
  for (const KeptFile& kept : files) {
    AheadCopy* const file = TRY(add(kept));
    if (file == nullptr) continue;
    file->wants_copy = !is_sealed(volume, *file);
    if (!file->wants_copy) files_.pop_back();
  }
  return {};
}

Result<void> CopiesAhead::look_at_target(const Volume& volume, const std::shared_ptr<const LayerStack>& stack,
                                         const std::vector<KeptFile>& wanted) {
  target_.emplace(stack);
  for (const KeptFile& kept : wanted) (void)TRY(target_->find(kept.path));
  if (!can_tell(volume)) return {};
  for (const KeptFile& kept : wanted) {
    AheadCopy* file = find(kept.inode);
    const bool is_new = file == nullptr;
    if (is_new) file = TRY(add(kept));
    if (file == nullptr) continue;
    const std::optional<StackFiles::Found> target = TRY(target_->find(kept.path));
    const bool is_equal = target && is_sealed(volume, *file) &&
                          volume.sealed_copies().at(file->inode).copy == target->inode &&
                          volume.sealed_copies().at(file->inode).path == kept.path;
    if (target && !is_equal) {
      file->target_dir = TRY(target->layer->open());
      file->target_path = kept.path;
      file->target = target->inode;
    } else if (is_new) {
      files_.pop_back();
    }
  }
  return {};
}

Result<std::vector<KeptFile>> CopiesAhead::missed(const Volume& volume, const std::vector<FileToKeep>& files) {
  std::vector<KeptFile> found;
  if (!can_tell(volume) || volume.copies_share_blocks()) return found;
  CopiesAhead looks;
  looks.layer_dir_ = volume.writable_dir();
  for (const FileToKeep& kept : files) {
    if (kept.mapped_for_writing) continue;
    const AheadCopy* const file = TRY(looks.add(kept.path, kWorthFreezingBytes));
    if (file == nullptr || is_sealed(volume, *file) || find(file->inode) != nullptr) continue;
    found.push_back({file->path, file->inode, {file->path}});
  }
  return found;
}

// Null: too small, not there, or one too many.
Result<AheadCopy*> CopiesAhead::add(const std::string& path, std::int64_t at_least_bytes) {
  struct stat info {};
  if (files_.size() >= kMostFiles) return nullptr;
  if (::fstatat(layer_dir_->get(), path.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode) ||
      info.st_size < at_least_bytes || info.st_nlink != 1) {
    return nullptr;
  }
  UniqueFd opened = TRY(open_file_of(layer_dir_->get(), path));
  if (!opened.valid()) return nullptr;
  const SeenFile seen = TRY(look_at(opened.get()));
  AheadCopy file;
  file.path = path;
  file.inode = seen.inode;
  file.version = seen.version;
  file.file = std::move(opened);
  files_.push_back(std::move(file));
  return &files_.back();
}

// Null also: moved.
Result<AheadCopy*> CopiesAhead::add(const KeptFile& kept) {
  AheadCopy* const file = TRY(add(kept.path, kWorthBytes));
  if (file == nullptr || file->inode == kept.inode) return file;
  files_.pop_back();
  return nullptr;
}

void CopiesAhead::leave_out(const std::set<std::string>& names) {
  std::erase_if(files_, [&](const AheadCopy& file) { return names.contains(name_of(file.path)); });
}

void CopiesAhead::work() {
  for (AheadCopy& file : files_) {
    wait_for_writes(file.file.get());
    if (file.wants_copy) (void)copy(layer_dir_->get(), file);
    if (file.target_dir) (void)compare(file);
  }
}

StackFiles CopiesAhead::take_live(const Volume& volume) {
  const bool is_known = live_ && live_->stack() == *volume.live_stack();
  return is_known ? std::move(*live_) : StackFiles(volume.live_stack());
}

StackFiles CopiesAhead::take_target(const std::shared_ptr<const LayerStack>& stack) {
  const bool is_known = target_ && target_->stack() == *stack;
  return is_known ? std::move(*target_) : StackFiles(stack);
}

AheadCopy* CopiesAhead::find(const InodeId& inode) {
  const auto found =
      std::find_if(files_.begin(), files_.end(), [&](const AheadCopy& file) { return file.inode == inode; });
  return found != files_.end() ? &*found : nullptr;
}

}  // namespace deltabox

#include "deltafs/hand_over.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/fault.h"
#include "sys/file_copy.h"
#include "sys/files.h"

namespace deltabox {

namespace {

// overlayfs shows such a file under its origin's number, but only while that has no other link: a merge that links the
// origin once more changes what is shown, also between two looks.
bool was_copied_up(int fd) { return ::fgetxattr(fd, "user.overlay.origin", nullptr, 0) >= 0; }

}  // namespace

HandOver::HandOver(Volume& volume, const StagedOverlay& next, CopiesAhead ahead)
    : volume_(&volume),
      ahead_(std::move(ahead)),
      left_(volume.writable_layer()),
      left_dir_(volume.writable_dir()),
      entered_dir_(next.upper_dir),
      live_(ahead_.take_live(volume)),
      next_(ahead_.take_target(next.stack)),
      is_seal_(next.stack->back() == left_),
      left_dirs_(volume.writable_dir()),
      entered_dirs_(next.upper_dir) {}

HandOver::HandOver(HandOver&& other) noexcept
    : volume_(other.volume_),
      ahead_(std::move(other.ahead_)),
      left_(std::move(other.left_)),
      left_dir_(std::move(other.left_dir_)),
      entered_dir_(std::move(other.entered_dir_)),
      steps_(std::move(other.steps_)),
      live_(std::move(other.live_)),
      next_(std::move(other.next_)),
      is_seal_(other.is_seal_),
      left_dirs_(std::move(other.left_dirs_)),
      entered_dirs_(std::move(other.entered_dirs_)),
      left_names_(std::move(other.left_names_)),
      present_dirs_(std::move(other.present_dirs_)),
      made_dirs_(std::move(other.made_dirs_)),
      made_links_(std::move(other.made_links_)),
      left_times_(std::move(other.left_times_)),
      kept_(std::move(other.kept_)),
      copied_bytes_(other.copied_bytes_),
      copied_ahead_bytes_(other.copied_ahead_bytes_),
      committed_(std::exchange(other.committed_, true)) {}

HandOver::~HandOver() {
  if (committed_) return;
  for (const std::string& link : made_links_) ::unlinkat(entered_dir_->get(), link.c_str(), 0);
  for (auto dir = made_dirs_.rbegin(); dir != made_dirs_.rend(); ++dir) {
    ::unlinkat(entered_dir_->get(), dir->path.c_str(), AT_REMOVEDIR);
  }
  for (const Step& step : steps_) {
    if (!step.temporary.empty()) ::unlinkat(left_dir_->get(), step.temporary.c_str(), 0);
  }
}

Result<HandOver> HandOver::prepare(Volume& volume, const StagedOverlay& next, const std::vector<FileToKeep>& files,
                                   CopiesAhead ahead) {
  HandOver hand_over(volume, next, std::move(ahead));
  for (const FileToKeep& file : files) TRY(hand_over.add(file));
  TRY(hand_over.finish_dirs());
  return hand_over;
}

Result<void> HandOver::add(const FileToKeep& file) {
  UniqueFd opened = TRY(open_file_of(left_dir_->get(), file.path));
  Step step;
  step.names.push_back(file.path);
  SeenFile seen;
  if (opened.valid()) seen = TRY(look_at(opened.get()));
  step.inode = seen.inode;
  if (file.inode && *file.inode != step.inode) {
    // Renamed since, or gone.
    step.names = TRY(left_names_.of(left_dir_->get(), file.inode->number));
    if (step.names.empty()) return {};
    opened = TRY(open_file_of(left_dir_->get(), step.names.front()));
    if (!opened.valid()) return {};
    seen = TRY(look_at(opened.get()));
    if (seen.inode != *file.inode) return {};
    step.inode = *file.inode;
  }
  if (!opened.valid()) return {};
  const auto same = [&](const Step& other) { return other.inode == step.inode; };
  if (std::any_of(steps_.begin(), steps_.end(), same)) return {};  // two names of one file
  if (file.shown_inode != 0) {
    struct stat shown {};
    if (::fstatat(volume_->mount_fd(), file.path.c_str(), &shown, AT_SYMLINK_NOFOLLOW) != 0) {
      return os_error("fstatat", file.path);
    }
    const bool shows_own = shown.st_ino == step.inode.number || file.shown_inode == step.inode.number;
    if (shown.st_ino != file.shown_inode && !(shows_own && was_copied_up(opened.get()))) {
      return make_error(Code::kInternal, "an open file is not the one at its path: " + file.path);
    }
  }
  step.file = std::move(opened);
  step.is_told = volume_->ctimes_tell_stores() && !file.mapped_for_writing;
  const AheadCopy* const ahead = ahead_.find(step.inode);
  step.unwritten_since_ahead = ahead != nullptr && ahead->version == seen.version && step.is_told;
  if (seen.links > step.names.size()) {
    const std::vector<std::string> names = TRY(left_names_.of(left_dir_->get(), step.inode.number));
    std::copy_if(names.begin(), names.end(), std::back_inserter(step.names),
                 [&](const std::string& name) { return name != step.names.front(); });
  }
  if (!TRY(has_equal_copy(step, seen.version))) TRY(make_copy(step));
  step.path = file.path;
  steps_.push_back(std::move(step));
  const Step& added = steps_.back();
  const std::vector<std::string>& names = file.inode ? file.names : added.names;
  for (const std::string& name : names) TRY(link_into_next(added, name));
  kept_.push_back({file.path, added.inode, names});
  return {};
}

Result<bool> HandOver::has_equal_copy(const Step& step, const FileVersion& version) {
  const auto known = volume_->sealed_copies().find(step.inode);
  if (known == volume_->sealed_copies().end() || step.names.size() != 1 || known->second.path != step.names[0]) {
    return false;
  }
  if (version != known->second.version) return false;
  if (TRY(left_dirs_.hides_below(parent_of(step.names[0])))) return false;
  const std::optional<StackFiles::Found> below = TRY(live_.find(step.names[0]));
  if (!below || below->inode != known->second.copy) return false;
  if (step.is_told) return true;
  UniqueFd copy = TRY(sys::open_beneath(TRY(below->layer->open())->get(), step.names[0], O_RDONLY));
  return sys::same_file_data(copy.get(), step.file.get());
}

Result<void> HandOver::make_copy(Step& step) {
  AheadCopy* const ahead = ahead_.find(step.inode);
  UniqueFd copy;
  if (ahead != nullptr && ahead->copy.valid()) {
    copy = std::move(ahead->copy);
    step.temporary = std::exchange(ahead->copy_name, {});
  } else {
    step.temporary = copy_name_of(step.inode);
    copy = TRY(sys::open_at(left_dir_->get(), step.temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  }
  const auto fill = [&]() -> Result<void> {
    if (ahead == nullptr || ahead->copied_bytes == 0) {
      copied_bytes_ += TRY(sys::copy_file_data(step.file.get(), copy.get()));
    } else {
      copied_bytes_ += ahead->copied_bytes;
      copied_ahead_bytes_ += ahead->copied_bytes;
      if (!step.unwritten_since_ahead) copied_bytes_ += TRY(sys::correct_file_data(step.file.get(), copy.get()));
    }
    TRY(sys::copy_file_attributes(step.file.get(), copy.get()));
    step.copy = TRY(look_at(copy.get())).inode;
    return {};
  };
  Result<void> outcome = fill();
  if (!outcome.ok()) ::unlinkat(left_dir_->get(), std::exchange(step.temporary, {}).c_str(), 0);
  return outcome;
}

// The topmost of those that a directory of the next stack consists of: it looks as that one does.
Result<LayerDir> HandOver::model_of(const std::string& dir) {
  // What is handed over lies in the layer that is left, and so do the directories above it.
  if (is_seal_) {
    return std::make_shared<const UniqueFd>(TRY(sys::open_beneath(left_dir_->get(), dir, O_RDONLY | O_DIRECTORY)));
  }
  const std::optional<StackEntry> entry = TRY(next_.lookup().find(dir));
  if (entry && S_ISDIR(entry->info.st_mode)) return entry->fd;
  return make_error(Code::kInternal, "a directory is missing in the layers: " + dir);
}

// The directories above a name, looking as they do in the stack below.
Result<void> HandOver::make_parents(const std::string& path) {
  std::string dir;
  for (const std::string& component : path_components(parent_of(path))) {
    dir += (dir.empty() ? "" : "/") + component;
    if (!present_dirs_.insert(dir).second) continue;
    struct stat present {};
    if (::fstatat(entered_dir_->get(), dir.c_str(), &present, AT_SYMLINK_NOFOLLOW) == 0) continue;
    const LayerDir model = TRY(model_of(dir));
    const struct stat info = TRY(sys::stat_fd(model->get()));
    TRY(sys::make_dir_at(entered_dir_->get(), dir, 0700));
    made_dirs_.push_back({dir, {info.st_atim, info.st_mtim}});
    UniqueFd made = TRY(sys::open_beneath(entered_dir_->get(), dir, O_RDONLY | O_DIRECTORY));
    TRY(sys::copy_file_attributes(model->get(), made.get()));
    // The names below may have inode numbers that are not their own (a copied-up file shows its origin's); readdir
    // looks at each where a directory is marked so.
    if (::fsetxattr(made.get(), "user.overlay.impure", "y", 1, 0) != 0) return os_error("fsetxattr", dir);
  }
  return {};
}

Result<void> HandOver::link_into_next(const Step& step, const std::string& name) {
  TRY(make_parents(name));
  const int from = TRY(left_dirs_.open(parent_of(step.names[0])));
  const int to = TRY(entered_dirs_.open(parent_of(name)));
  if (::linkat(from, name_of(step.names[0]).c_str(), to, name_of(name).c_str(), 0) != 0) {
    return os_error("linkat", name);
  }
  made_links_.push_back(name);
  return {};
}

// Links change the times of their directories.
Result<void> HandOver::finish_dirs() {
  for (const MadeDir& dir : made_dirs_) {
    if (::utimensat(entered_dir_->get(), dir.path.c_str(), dir.times, AT_SYMLINK_NOFOLLOW) != 0) {
      return os_error("utimensat", dir.path);
    }
  }
  return {};
}

// Puts the sealed copy in the inode's place in the layer that is left, or nothing where a layer below has an equal one.
Result<void> HandOver::replace_in_left(const Step& step) {
  for (const std::string& name : step.names) {
    const std::string parent_path = parent_of(name);
    const int parent = TRY(left_dirs_.open(parent_path));
    const std::string last_part = name_of(name);
    if (!left_times_.contains(parent_path)) {
      const struct stat dir = TRY(sys::stat_fd(parent));
      left_times_[parent_path] = {dir.st_atim, dir.st_mtim};
    }
    const bool is_last = &name == &step.names.back();
    if (step.temporary.empty()) {
      if (::unlinkat(parent, last_part.c_str(), 0) != 0) return os_error("unlinkat", name);
    } else {
      // All names but the last get a link of the copy, the last one the copy itself. The name is there at every
      // moment: the next layer may not be on record yet, should the engine end here.
      const std::string source = is_last ? step.temporary : step.temporary + "-link";
      if (!is_last && ::linkat(left_dir_->get(), step.temporary.c_str(), left_dir_->get(), source.c_str(), 0) != 0) {
        return os_error("linkat", name);
      }
      // Exchanged and not replaced: to replace a file, ext4 first begins to write the new one's data (auto_da_alloc).
      if (::renameat2(left_dir_->get(), source.c_str(), parent, last_part.c_str(), RENAME_EXCHANGE) != 0) {
        return os_error("renameat2", name);
      }
      if (::unlinkat(left_dir_->get(), source.c_str(), 0) != 0) return os_error("unlinkat", source);
    }
    fault_point(FaultPoint::kBetweenNames);
  }
  return {};
}

Result<void> HandOver::commit() {
  committed_ = true;
  std::map<InodeId, SealedCopy> copies;
  for (const Step& step : steps_) {
    const auto known = volume_->sealed_copies().find(step.inode);
    TRY(replace_in_left(step));
    SealedCopy copy = known != volume_->sealed_copies().end() ? known->second : SealedCopy{};
    if (!step.temporary.empty()) copy.copy = step.copy;
    copy.path = step.path;
    // Links and renames gave the inode another ctime.
    copy.version = version_of(TRY(sys::stat_fd(step.file.get())));
    copies[step.inode] = std::move(copy);
  }
  for (const auto& [path, times] : left_times_) {
    if (::futimens(TRY(left_dirs_.open(path)), times.data()) != 0) return os_error("futimens", path);
  }
  volume_->sealed_copies() = std::move(copies);
  return {};
}

Result<void> HandOver::correct() {
  for (Step& step : steps_) {
    const std::string& path = step.path;
    const std::optional<StackFiles::Found> found = TRY(next_.find(path));
    if (!found) return make_error(Code::kInternal, "a file of the checkpoint is missing in its layers: " + path);
    SealedCopy& known = volume_->sealed_copies()[step.inode];
    const InodeId wanted = found->inode;
    const FileVersion version = version_of(TRY(sys::stat_fd(step.file.get())));
    const bool is_equal = known.copy == wanted && known.path == path && known.version == version && step.is_told;
    if (!is_equal) {
      UniqueFd source = TRY(sys::open_beneath(TRY(found->layer->open())->get(), path, O_RDONLY));
      UniqueFd inode = TRY(sys::open_beneath(entered_dir_->get(), path, O_RDWR));
      const AheadCopy* const ahead = ahead_.find(step.inode);
      const bool is_compared = step.unwritten_since_ahead && ahead->differences && ahead->target == wanted;
      copied_bytes_ += is_compared ? TRY(sys::apply_differences(*ahead->differences, source.get(), inode.get()))
                                   : TRY(sys::correct_file_data(source.get(), inode.get()));
      TRY(sys::copy_file_attributes(source.get(), inode.get()));
    }
    known = {path, wanted, version_of(TRY(sys::stat_fd(step.file.get())))};
  }
  return {};
}

Result<WrittenMark> HandOver::mark() const {
  WrittenMark mark;
  for (const Step& step : steps_) mark.unknown = mark.unknown || !step.is_told;
  const auto add = [&](const std::string& path) -> Result<void> {
    struct stat info {};
    if (::fstatat(entered_dir_->get(), path.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return os_error("fstatat", path);
    mark.entries.emplace_back(path, version_of(info));
    return {};
  };
  for (const MadeDir& dir : made_dirs_) TRY(add(dir.path));
  for (const std::string& link : made_links_) TRY(add(link));
  return mark;
}

}  // namespace deltabox

#include "deltafs/volume.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "deltafs/merge.h"
#include "sys/files.h"
#include "sys/mounts.h"

namespace deltabox {

namespace {

std::int64_t ctime_ns(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return -1;
  return static_cast<std::int64_t>(info.st_ctim.tv_sec) * 1'000'000'000 + info.st_ctim.tv_nsec;
}

Error explain_overlay_error(Error error, const std::string& volume) {
  error.subject = volume + ": " + error.subject;
  if (error.code == Code::kInternal || error.code == Code::kUnsupportedKernel) {
    error.code = Code::kUnsupported;
    error.next_step =
        "Keep the state directory on ext4, XFS, btrfs or tmpfs (not on an overlay), outside the workspace, and run "
        "`deltabox doctor`.";
  }
  return error;
}

Result<UniqueFd> mount_overlay(const LayerStack& stack, int upper_fd, int work_fd) {
  UniqueFd context = TRY(sys::fs_open("overlay"));
  // overlayfs wants the top layer first.
  for (auto layer = stack.rbegin(); layer != stack.rend(); ++layer) {
    TRY(sys::fs_config_fd(context.get(), "lowerdir+", TRY((*layer)->open())->get()));
  }
  TRY(sys::fs_config_fd(context.get(), "upperdir", upper_fd));
  TRY(sys::fs_config_fd(context.get(), "workdir", work_fd));
  TRY(sys::fs_config_flag(context.get(), "userxattr"));
  TRY(sys::fs_config_flag(context.get(), "volatile"));
  TRY(sys::fs_config_string(context.get(), "index", "off"));
  TRY(sys::fs_config_create(context.get()));
  return sys::fs_mount(context.get(), MOUNT_ATTR_NODEV);
}

// The root directory of an overlay is its upper layer's: a fresh one must look like the root that it replaces. Set
// through the overlay, whose own inode keeps copies of these attributes.
Result<void> inherit_root(int from_dir, int overlay_mount) {
  struct stat from {};
  struct stat to {};
  if (::fstat(from_dir, &from) != 0) return os_error("fstat", "volume root");
  if (::fstatat(overlay_mount, "", &to, AT_EMPTY_PATH) != 0) return os_error("fstatat", "volume root");
  // An owner without an id in the sandbox can't be given (EINVAL); the root is then the sandbox's own, as a copied-up
  // directory would be.
  if ((from.st_uid != to.st_uid || from.st_gid != to.st_gid) &&
      ::fchownat(overlay_mount, ".", from.st_uid, from.st_gid, 0) != 0 && errno != EINVAL) {
    return os_error("fchownat", "volume root");
  }
  if (from.st_mode != to.st_mode && ::fchmodat(overlay_mount, ".", from.st_mode & 07777, 0) != 0) {
    return os_error("fchmodat", "volume root");
  }
  const auto same_time = [](const timespec& a, const timespec& b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
  };
  if (same_time(from.st_atim, to.st_atim) && same_time(from.st_mtim, to.st_mtim)) return {};
  const timespec times[2] = {from.st_atim, from.st_mtim};
  if (::utimensat(overlay_mount, ".", times, 0) != 0) return os_error("utimensat", "volume root");
  return {};
}

}  // namespace

Result<StagedOverlay> Volume::stage(LayerStore& layers, std::shared_ptr<const LayerStack> stack) const {
  if (stack->size() > kMaxStackDepth) {
    return make_error(Code::kTooLarge,
                      "volume " + spec_.name + " has " + std::to_string(stack->size()) +
                          " layers, the most that one overlay can stack",
                      "Roll back to an earlier checkpoint, or create a new sandbox.");
  }
  // The root directory's own mode is the topmost layer's.
  struct stat top {};
  if (::fstat(TRY(stack->back()->open())->get(), &top) != 0) return os_error("fstat", spec_.name);
  LayerStore::Fresh fresh = TRY(layers.make_layer(top.st_mode));
  Result<UniqueFd> mount = mount_overlay(*stack, fresh.dir->get(), fresh.work.get());
  if (!mount.ok()) return explain_overlay_error(mount.release_error(), spec_.name);
  // overlayfs that can't make its work directory mounts all the same, but read-only.
  struct statvfs attributes {};
  if (::fstatvfs(mount.value().get(), &attributes) == 0 && (attributes.f_flag & ST_RDONLY) != 0) {
    return make_error(
        Code::kNoSpace, "the state directory has no room for a layer of volume " + spec_.name,
        "Free space and inodes on the disk of the state directory, or set DELTABOX_STATE_DIR to another.");
  }
  StagedOverlay staged;
  staged.mount = mount.release_value();
  staged.upper = std::move(fresh.layer);
  staged.upper_dir = std::move(fresh.dir);
  staged.stack = std::move(stack);
  staged.serial = staged.upper->id;
  staged.device = TRY(sys::stat_fd(staged.mount.get())).st_dev;
  staged.ctime_tells = layers.ctimes_tell_changes();
  staged.stores_tell = layers.ctimes_tell_stores();
  staged.shares_blocks = layers.copies_share_blocks();
  TRY(prepare_root(staged));
  return staged;
}

Result<void> Volume::prepare_root(StagedOverlay& staged) const {
  TRY(inherit_root(TRY(staged.stack->back()->open())->get(), staged.mount.get()));
  staged.upper_ctime_ns = ctime_ns(staged.upper_dir->get());
  return {};
}

Result<StagedOverlay> Volume::stage_seal(LayerStore& layers) const {
  const std::shared_ptr<const LayerStack> below =
      merge_ ? with_merged(live_.stack, merge_->run, merge_->merged) : live_.stack;
  auto sealed = std::make_shared<LayerStack>(*below);
  sealed->push_back(live_.upper);
  return stage(layers, std::move(sealed));
}

void Volume::use_merged(LayerStack run, std::shared_ptr<const Layer> merged) {
  // A rollback has left the run behind: kept for the next switch, it would be kept for nothing.
  if (with_merged(live_.stack, run, merged) == live_.stack) return;
  merge_ = Merge{std::move(run), std::move(merged)};
}

Result<Volume> Volume::create(VolumeSpec spec, LayerStore& layers, const std::vector<UniqueFd>& bases,
                              const LayerStack& above) {
  Volume volume;
  volume.spec_ = std::move(spec);
  auto stack = std::make_shared<LayerStack>();
  if (volume.spec_.base >= 0) {
    auto base = std::make_shared<Layer>();
    base->base =
        std::make_shared<const UniqueFd>(TRY(sys::duplicate(bases[static_cast<std::size_t>(volume.spec_.base)].get())));
    stack->push_back(std::move(base));
  } else {
    stack->push_back(TRY(layers.make_base(volume.spec_.name, volume.spec_.mode, volume.spec_.base_dirs)));
  }
  stack->insert(stack->end(), above.begin(), above.end());
  volume.live_ = TRY(volume.stage(layers, std::move(stack)));
  return volume;
}

Result<void> Volume::attach(int m1_root_fd) {
  TRY(sys::move_mount_to(live_.mount.get(), m1_root_fd, spec_.path.substr(1)));
  const struct statx info = TRY(sys::statx_at(live_.mount.get(), "", AT_EMPTY_PATH, STATX_MNT_ID));
  mount_id_ = info.stx_mnt_id;
  return {};
}

FileVersion version_of(const struct stat& info) {
  const auto ns = [](const timespec& time) {
    return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
  };
  return {info.st_size, ns(info.st_mtim), ns(info.st_ctim)};
}

bool Volume::changed() const {
  // A change below copies up its parents, so the upper root gets an entry; a change of the root itself moves its ctime.
  if (ctime_ns(live_.upper_dir->get()) != live_.upper_ctime_ns || live_.mark.unknown) return true;
  if (live_.mark.entries.empty()) return !live_.ctime_tells && !sys::is_dir_empty(live_.upper_dir->get());
  return std::any_of(live_.mark.entries.begin(), live_.mark.entries.end(), [&](const auto& entry) {
    struct stat info {};
    return ::fstatat(live_.upper_dir->get(), entry.first.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 ||
           version_of(info) != entry.second;
  });
}

void Volume::except_from_changes(const std::vector<std::string>& paths) {
  std::map<std::string, FileVersion> entries(live_.mark.entries.begin(), live_.mark.entries.end());
  for (const std::string& path : paths) {
    for (std::size_t end = path.find('/');; end = path.find('/', end + 1)) {
      const std::string part = path.substr(0, end);
      struct stat info {};
      if (::fstatat(live_.upper_dir->get(), part.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
        entries[part] = version_of(info);
      }
      if (end == std::string::npos) break;
    }
  }
  live_.mark.entries.assign(entries.begin(), entries.end());
  live_.upper_ctime_ns = ctime_ns(live_.upper_dir->get());
}

Result<UniqueFd> Volume::switch_to(StagedOverlay staged, int m1_root_fd, int parking_fd, const std::string& place) {
  TRY(prepare_root(staged));
  TRY(sys::move_mount_beneath(staged.mount.get(), m1_root_fd, spec_.path.substr(1)));
  // Fails only for want of memory; then the old overlay is still on top, and the caller ends what runs on it.
  TRY(sys::move_mount_to(live_.mount.get(), parking_fd, place));
  UniqueFd old = std::move(live_.mount);
  live_ = std::move(staged);
  merge_.reset();
  const struct statx info = TRY(sys::statx_at(live_.mount.get(), "", AT_EMPTY_PATH, STATX_MNT_ID));
  mount_id_ = info.stx_mnt_id;
  return old;
}

Result<void> release_parked(UniqueFd parked, int self_fd_dir) {
  // umount2 takes only paths. The magic link leads to this mount as long as nothing is mounted on top of it, which is
  // why every parked overlay has a place of its own.
  if (::fchdir(self_fd_dir) != 0) return os_error("fchdir", "/proc/self/fd");
  const std::string name = std::to_string(parked.get());
  if (::umount2(name.c_str(), MNT_DETACH) != 0) return os_error("umount2", "parked overlay");
  if (::chdir("/") != 0) return os_error("chdir", "/");
  return {};
}

}  // namespace deltabox

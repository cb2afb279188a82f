// Probes of the state directory's file system and of what volumes are made of.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "doctor/actors.h"
#include "doctor/probe.h"
#include "doctor/scratch.h"
#include "sys/files.h"
#include "sys/mounts.h"

namespace deltabox::doctor {

namespace {

// A directory in scratch for one probe, with the sandbox's owner when `owned`.
Result<UniqueFd> make_probe_dir(const Context& context, const std::string& name, bool owned) {
  if (context.scratch.empty()) {
    return make_error(Code::kUnsupported, "not tried, because state-dir failed", "See state-dir.");
  }
  const UniqueFd scratch = TRY(sys::open_at(AT_FDCWD, context.scratch, O_RDONLY | O_DIRECTORY));
  TRY(sys::make_dir_at(scratch.get(), name, 0755));
  UniqueFd dir = TRY(sys::open_at(scratch.get(), name, O_RDONLY | O_DIRECTORY));
  const IdMap& map = context.id_map;
  if (owned && ::fchown(dir.get(), map.outside_uid, map.outside_gid) != 0) return os_error("fchown", name);
  return dir;
}

Result<std::string> probe_state_dir(const Context& context) {
  // The scratch directory is made before all probes; where that failed, the reason shows here.
  if (context.scratch.empty()) TRY(make_scratch(context.state_dir));
  const UniqueFd dir = TRY(make_probe_dir(context, "files", true));
  const UniqueFd file = TRY(sys::open_at(dir.get(), "file", O_WRONLY | O_CREAT | O_EXCL, 0600));
  TRY(sys::write_all(file.get(), "x", 1));
  if (::fsync(file.get()) != 0) return os_error("fsync", context.state_dir);
  // An open file goes from a sealed layer to the next by a link; a manifest is committed by a rename.
  if (::linkat(dir.get(), "file", dir.get(), "link", 0) != 0) return os_error("linkat", context.state_dir);
  if (::renameat(dir.get(), "link", dir.get(), "file-2") != 0) return os_error("renameat", context.state_dir);
  return "writable: " + context.state_dir;
}

// The store as the engine gets it: a copy of its mount, made with the host's privileges when the ids inside could not
// reach it by its path.
Result<UniqueFd> clone_store(const Context& context, const std::string& name) {
  TRY(make_private_mounts());
  return sys::open_tree_clone(AT_FDCWD, context.scratch + "/" + name, false);
}

Result<UniqueFd> mount_overlay(int store_fd) {
  const UniqueFd lower = TRY(sys::open_at(store_fd, "lower", O_RDONLY | O_DIRECTORY));
  const UniqueFd base = TRY(sys::open_at(store_fd, "base", O_RDONLY | O_DIRECTORY));
  const UniqueFd upper = TRY(sys::open_at(store_fd, "upper", O_RDONLY | O_DIRECTORY));
  const UniqueFd work = TRY(sys::open_at(store_fd, "work", O_RDONLY | O_DIRECTORY));
  const UniqueFd overlay = TRY(sys::fs_open("overlay"));
  Result<void> first = sys::fs_config_fd(overlay.get(), "lowerdir+", lower.get());
  if (!first.ok()) {
    Error error = first.release_error();
    // A kernel before 6.13 refuses any descriptor with EINVAL, a later one only an upper directory's file system.
    if (error.os_errno == EINVAL) error.code = Code::kUnsupportedKernel;
    return error;
  }
  TRY(sys::fs_config_fd(overlay.get(), "lowerdir+", base.get()));
  TRY(sys::fs_config_fd(overlay.get(), "upperdir", upper.get()));
  TRY(sys::fs_config_fd(overlay.get(), "workdir", work.get()));
  TRY(sys::fs_config_flag(overlay.get(), "userxattr"));
  TRY(sys::fs_config_flag(overlay.get(), "volatile"));
  TRY(sys::fs_config_string(overlay.get(), "index", "off"));
  TRY(sys::fs_config_create(overlay.get()));
  return sys::fs_mount(overlay.get(), MOUNT_ATTR_NODEV);
}

// Copy-up, whiteout and a new file: the three ways in which an upper directory differs from its lower ones.
Result<std::string> use_overlay(int store_fd) {
  for (const char* name : {"base", "lower", "upper", "work"}) TRY(sys::make_dir_at(store_fd, name, 0755));
  TRY(sys::write_file_at(store_fd, "base/changed", "old"));
  TRY(sys::write_file_at(store_fd, "lower/removed", "old"));
  const UniqueFd overlay = TRY(mount_overlay(store_fd));
  const UniqueFd root = TRY(sys::open_at(overlay.get(), ".", O_RDONLY | O_DIRECTORY));  // a mount's own is O_PATH
  TRY(sys::write_file_at(root.get(), "changed", "new"));
  TRY(sys::write_file_at(root.get(), "added", "new"));
  if (::unlinkat(root.get(), "removed", 0) != 0) return os_error("unlinkat", "a file of a lower layer");
  const std::string kept = TRY(sys::read_file_at(store_fd, "base/changed", 16));
  const std::string changed = TRY(sys::read_file_at(store_fd, "upper/changed", 16));
  const std::vector<std::string> names = TRY(sys::list_dir(root.get()));
  if (kept != "old" || changed != "new" || names.size() != 2) {
    return make_error(Code::kInternal, "the overlay does not keep its layers apart");
  }
  return std::string("two lower layers and an upper one by descriptor, in a user namespace");
}

Result<std::string> probe_overlay(const Context& context) {
  TRY(make_probe_dir(context, "overlay", true));
  UniqueFd store;
  if (context.id_map.ranged) store = TRY(clone_store(context, "overlay"));
  return as_engine(context, [&]() -> Result<std::string> {
    if (context.id_map.ranged) {
      TRY(make_private_mounts());
    } else {
      store = TRY(clone_store(context, "overlay"));
    }
    // overlayfs takes layers only from mounts of the caller's mount namespace.
    const UniqueFd root = TRY(mount_tmpfs_on_root());
    TRY(sys::make_dir_at(root.get(), "store", 0700));
    TRY(sys::move_mount_to(store.get(), root.get(), "store"));
    const UniqueFd attached = TRY(sys::open_at(root.get(), "store", O_RDONLY | O_DIRECTORY));
    return use_overlay(attached.get());
  });
}

Result<UniqueFd> mount_tmpfs_with(const char* file_name) {
  const UniqueFd context = TRY(sys::fs_open("tmpfs"));
  TRY(sys::fs_config_string(context.get(), "size", "64k"));
  TRY(sys::fs_config_create(context.get()));
  UniqueFd mount = TRY(sys::fs_mount(context.get(), 0));
  TRY(sys::write_file_at(mount.get(), file_name, "x"));
  return mount;
}

Result<std::string> probe_move_beneath(const Context& context) {
  return as_engine(context, []() -> Result<std::string> {
    TRY(make_private_mounts());
    const UniqueFd root = TRY(mount_tmpfs_on_root());
    TRY(sys::make_dir_at(root.get(), "volume", 0755));
    TRY(sys::make_dir_at(root.get(), "parking", 0755));
    const UniqueFd old_top = TRY(mount_tmpfs_with("old"));
    const UniqueFd new_top = TRY(mount_tmpfs_with("new"));
    TRY(sys::move_mount_to(old_top.get(), root.get(), "volume"));
    TRY(sys::move_mount_beneath(new_top.get(), root.get(), "volume"));
    if (::faccessat(root.get(), "volume/old", F_OK, 0) != 0) return os_error("the old mount is not on top");
    TRY(sys::move_mount_to(old_top.get(), root.get(), "parking"));
    if (::faccessat(root.get(), "volume/new", F_OK, 0) != 0) return os_error("the new mount did not appear");
    return std::string("a mount was exchanged for the one beneath it");
  });
}

Result<std::string> probe_idmapped_mount(const Context& context) {
  TRY(make_probe_dir(context, "idmap", false));
  const auto wait_for_end = [](int socket_fd) { wait_for_prober(socket_fd); };
  const ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kHost, 0, wait_for_end));
  const std::string path = std::to_string(task.tid().value) + "/ns/user";
  const UniqueFd user_namespace = TRY(sys::open_at(context.proc.get(), path, O_RDONLY));
  const UniqueFd mount = TRY(clone_store(context, "idmap"));
  TRY(sys::set_mount_idmap(mount.get(), user_namespace.get()));
  const struct stat seen = TRY(sys::stat_fd(mount.get()));
  // The directory is root's; through the mount it is that of the sandbox's root.
  if (seen.st_uid != context.id_map.outside_uid) return make_error(Code::kInternal, "the mount does not map its ids");
  return std::string("the state directory's file system maps ids");
}

Result<std::string> probe_reflink(const Context& context) {
  const UniqueFd dir = TRY(make_probe_dir(context, "reflink", false));
  const UniqueFd source = TRY(sys::open_at(dir.get(), "source", O_RDWR | O_CREAT | O_EXCL, 0600));
  const std::string content(64 << 10, 'x');  // small files may be inlined in an inode, which is never shared
  TRY(sys::write_all(source.get(), content.data(), content.size()));
  const UniqueFd copy = TRY(sys::open_at(dir.get(), "copy", O_RDWR | O_CREAT | O_EXCL, 0600));
  if (::ioctl(copy.get(), FICLONE, source.get()) != 0) return os_error("FICLONE", context.state_dir);
  if (TRY(sys::read_all(copy.get(), content.size())) != content) {
    return make_error(Code::kInternal, "a cloned file has other contents");
  }
  return std::string("copies of files share their blocks");
}

}  // namespace

std::vector<Probe> file_probes(const Context& context) {
  return {
      {"state-dir", Topic::kStateDir, true, nullptr, probe_state_dir},
      {"overlayfs", Topic::kOverlay, true, "mount-namespace", probe_overlay},
      {"move-mount-beneath", Topic::kNamespaces, true, "mount-namespace", probe_move_beneath},
      {"idmapped-mount", Topic::kIdmap, context.id_map.ranged, "mount-namespace", probe_idmapped_mount},
      {"reflink", Topic::kReflink, false, "state-dir", probe_reflink},
  };
}

}  // namespace deltabox::doctor

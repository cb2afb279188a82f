#include "sandbox/system_view.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sys/files.h"
#include "sys/mounts.h"

namespace deltabox {

namespace {

// The root of a view that is not whole: a directory that hides one of the same name on the host.
constexpr const char* kPartRoot = "deltabox-view";

// An id that no file has: the one after the sandbox's range.
constexpr std::uint32_t kNobodyAtAll = kRangeFirst + kRangeCount;

Result<void> set_attribute(int fd, const char* name, const std::string& value) {
  if (::fsetxattr(fd, name, value.data(), value.size(), 0) != 0) return os_error("fsetxattr", name);
  return {};
}

Result<void> set_attributes(int fd, const ViewAttributes& wanted, const IdMap& map, const std::string& path) {
  const auto mapped = [&](std::uint32_t id, std::uint32_t first) { return id < map.count ? first + id : first; };
  if (::fchown(fd, mapped(wanted.uid, map.outside_uid), mapped(wanted.gid, map.outside_gid)) != 0) {
    return os_error("fchown", path);
  }
  if (::fchmod(fd, wanted.mode & 07777) != 0) return os_error("fchmod", path);
  const timespec times[2] = {{0, UTIME_OMIT}, wanted.modified};
  if (::futimens(fd, times) != 0) return os_error("futimens", path);
  return {};
}

struct EntryMaker {
  int root_fd;
  const IdMap& map;

  Result<void> operator()(const ViewDir& dir) const {
    TRY(sys::make_dir_at(root_fd, dir.path, 0700));
    UniqueFd fd = TRY(sys::open_at(root_fd, dir.path, O_RDONLY | O_DIRECTORY));
    if (dir.shows_host) TRY(set_attribute(fd.get(), "trusted.overlay.redirect", "/" + dir.path));
    return set_attributes(fd.get(), dir.attributes, map, dir.path);
  }
  Result<void> operator()(const ViewFile& file) const {
    UniqueFd fd = TRY(sys::open_at(root_fd, file.path, O_WRONLY | O_CREAT | O_EXCL, 0600));
    TRY(sys::write_all(fd.get(), file.contents.data(), file.contents.size()));
    return set_attributes(fd.get(), file.attributes, map, file.path);
  }
  Result<void> operator()(const ViewLink& link) const {
    if (::symlinkat(link.target.c_str(), root_fd, link.path.c_str()) != 0) return os_error("symlinkat", link.path);
    if (::fchownat(root_fd, link.path.c_str(), map.outside_uid, map.outside_gid, AT_SYMLINK_NOFOLLOW) != 0) {
      return os_error("fchownat", link.path);
    }
    return {};
  }
  Result<void> operator()(const ViewHidden& hidden) const {
    if (::mknodat(root_fd, hidden.path.c_str(), S_IFCHR, makedev(0, 0)) != 0) return os_error("mknodat", hidden.path);
    return {};
  }
};

Result<void> make_own_entries(const SystemView& view, int place_fd, const IdMap& map) {
  if (!view.whole) TRY(sys::make_dir_at(place_fd, kPartRoot, 0700));
  UniqueFd root = TRY(sys::open_at(place_fd, root_of(view), O_RDONLY | O_DIRECTORY));
  if (!view.whole) TRY(set_attribute(root.get(), "trusted.overlay.opaque", "y"));
  for (const ViewEntry& entry : view.entries) TRY(std::visit(EntryMaker{root.get(), map}, entry));
  return set_attributes(root.get(), view.attributes, map, view.path);
}

// Gives up all privileges but that of mounting.
Result<void> become_nobody() {
  if (::setgroups(0, nullptr) != 0) return os_error("setgroups");
  ::setfsgid(kNobodyAtAll);
  ::setfsuid(kNobodyAtAll);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective = data[CAP_TO_INDEX(CAP_SYS_ADMIN)].permitted =
      CAP_TO_MASK(CAP_SYS_ADMIN);
  if (::syscall(SYS_capset, &header, data) != 0) return os_error("capset");
  // Each reports the id from before the call, and no failure.
  if (static_cast<std::uint32_t>(::setfsuid(kNobodyAtAll)) != kNobodyAtAll ||
      static_cast<std::uint32_t>(::setfsgid(kNobodyAtAll)) != kNobodyAtAll) {
    return make_error(Code::kInternal, "the host helper could not give up its ids");
  }
  return {};
}

Result<UniqueFd> mount_view(int own_fd, int host_fd) {
  UniqueFd context = TRY(sys::fs_open("overlay"));
  TRY(sys::fs_config_fd(context.get(), "lowerdir+", own_fd));
  TRY(sys::fs_config_fd(context.get(), "lowerdir+", host_fd));
  TRY(sys::fs_config_string(context.get(), "redirect_dir", "follow"));
  TRY(sys::fs_config_string(context.get(), "metacopy", "off"));
  TRY(sys::fs_config_string(context.get(), "index", "off"));
  TRY(sys::fs_config_create(context.get()));
  return sys::fs_mount(context.get(), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID);
}

Result<UniqueFd> clone_mapped(const std::string& path, int user_namespace_fd) {
  UniqueFd tree = TRY(sys::open_tree_clone(AT_FDCWD, path, false));
  Result<void> mapped = sys::set_mount_idmap(tree.get(), user_namespace_fd);
  if (mapped.ok()) return tree;
  mapped.error().subject = path;
  return mapped.release_error();
}

std::string host_place(std::size_t index) { return std::to_string(index) + "-host"; }

}  // namespace

std::string root_of(const SystemView& view) { return view.whole ? "." : kPartRoot; }

Result<void> ViewBuilder::make_tmpfs() {
  UniqueFd context = TRY(sys::fs_open("tmpfs"));
  TRY(sys::fs_config_string(context.get(), "mode", "0755"));
  TRY(sys::fs_config_create(context.get()));
  tmpfs_ = TRY(sys::fs_mount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  return {};
}

Result<ViewBuilder::Place> ViewBuilder::make_place(const SystemView& view, std::size_t index, const IdMap& map) const {
  const std::string name = std::to_string(index);
  TRY(sys::make_dir_at(tmpfs_.get(), name, 0755));
  TRY(sys::make_dir_at(tmpfs_.get(), host_place(index), 0755));
  Place place;
  place.host_path = view.path;
  place.own = TRY(sys::open_at(tmpfs_.get(), name, O_RDONLY | O_DIRECTORY));
  TRY(make_own_entries(view, place.own.get(), map));
  return place;
}

ViewBuilder ViewBuilder::prepare(const std::vector<SystemView>& views, const IdMap& map) {
  ViewBuilder builder;
  if (views.empty()) return builder;
  const mode_t previous = ::umask(0);
  const Result<void> ready = builder.make_tmpfs();
  for (std::size_t index = 0; index < views.size(); ++index) {
    builder.places_.push_back(ready.ok() ? builder.make_place(views[index], index, map) : ready.error());
  }
  ::umask(previous);
  return builder;
}

// overlayfs takes no layers from detached mounts before 6.15.
Result<void> ViewBuilder::attach_hosts(int user_namespace_fd) {
  TRY(sys::move_mount_to(tmpfs_.get(), AT_FDCWD, "/"));
  for (std::size_t index = 0; index < places_.size(); ++index) {
    if (!places_[index].ok()) continue;
    Place& place = places_[index].value();
    Result<UniqueFd> tree = clone_mapped(place.host_path, user_namespace_fd);
    if (!tree.ok()) {
      places_[index] = tree.release_error();
      continue;
    }
    TRY(sys::move_mount_to(tree.value().get(), tmpfs_.get(), host_place(index)));
    place.host = TRY(sys::open_at(tmpfs_.get(), host_place(index), O_RDONLY | O_DIRECTORY));
  }
  return {};
}

std::vector<Result<UniqueFd>> ViewBuilder::mount(int user_namespace_fd) {
  Result<void> ready;
  if (tmpfs_) ready = attach_hosts(user_namespace_fd);
  if (ready.ok()) ready = become_nobody();
  std::vector<Result<UniqueFd>> mounts;
  for (const Result<Place>& place : places_) {
    if (!place.ok()) {
      mounts.emplace_back(place.error());
    } else if (!ready.ok()) {
      mounts.emplace_back(ready.error());
    } else {
      mounts.push_back(mount_view(place.value().own.get(), place.value().host.get()));
    }
  }
  return mounts;
}

}  // namespace deltabox

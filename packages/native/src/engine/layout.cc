#include "engine/layout.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "sandbox/host_etc.h"
#include "sandbox/system_plan.h"
#include "sys/files.h"

namespace deltabox {

namespace {

constexpr int kMaxRequestedVolumes = 16;
constexpr std::size_t kMaxImageEntries = 64;  // an image's top directories; a common one has 20
constexpr std::size_t kMaxPathBytes = 255;

bool is_below(const std::string& path, const std::string& above) { return path.starts_with(above + "/"); }

Result<struct stat> stat_host(const std::string& path, const char* what) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) return info;
  Error error = os_error("stat", path);
  error.next_step = std::string("Give an existing ") + what + ".";
  return error;
}

Result<void> check_directory(const std::string& path, const char* what) {
  const struct stat info = TRY(stat_host(path, "directory"));
  if (S_ISDIR(info.st_mode)) return {};
  return make_error(Code::kNotADirectory, std::string(what) + " is not a directory: " + path, "Give a directory.");
}

Result<void> check_mount_point(const std::string& path) {
  const bool well_formed = path.size() > 1 && path[0] == '/' && path.back() != '/' &&
                           path.find("//") == std::string::npos && path.find("/.") == std::string::npos &&
                           path.size() <= kMaxPathBytes;
  if (!well_formed) {
    return make_error(Code::kInvalidArgument, "not a mount point: " + path.substr(0, 300),
                      "Give an absolute, plain path.");
  }
  for (const char* reserved : {"/usr", "/etc", "/dev", "/proc", "/sys", "/opt", "/bin", "/sbin", "/lib", "/lib64"}) {
    if (path != reserved && !is_below(path, reserved)) continue;
    return make_error(Code::kInvalidArgument, path + " lies in a system directory", "Choose another mount point.");
  }
  return {};
}

// Builds the layout: whoever names a path first has it.
class Planner {
 public:
  Result<void> add_workspace(const v1::CreateRequest& request) {
    TRY(check_directory(request.workspace(), "the workspace"));
    TRY(check_mount_point(request.workspace_mount()));
    add_volume(request.workspace_mount(), 0755, request.workspace());
    return {};
  }

  Result<void> add_requested(const v1::CreateRequest& request) {
    if (request.volumes_size() > kMaxRequestedVolumes) {
      return make_error(Code::kInvalidArgument, "more than 16 volumes",
                        "Give fewer, or directories that hold several.");
    }
    for (const v1::VolumeRequest& volume : request.volumes()) {
      TRY(check_mount_point(volume.path()));
      if (taken_.contains(volume.path())) {
        return make_error(Code::kInvalidArgument, volume.path() + " is named twice", "Give each path once.");
      }
      if (volume.read_only()) {
        const struct stat info = TRY(stat_host(volume.from(), "file or directory"));
        layout_.binds.push_back({volume.from(), volume.path(), true, S_ISDIR(info.st_mode)});
        taken_.insert(volume.path());
      } else {
        if (!volume.from().empty()) TRY(check_directory(volume.from(), "the source of a volume"));
        add_volume(volume.path(), 0755, volume.from());
      }
    }
    return {};
  }

  // The top directories of an unpacked image, each a volume: its files are the bottom layer and never change.
  Result<void> add_image(const std::string& image, bool host_network, const std::string& hosts) {
    TRY(check_directory(image, "the rootfs"));
    UniqueFd dir = TRY(sys::open_at(AT_FDCWD, image, O_RDONLY | O_DIRECTORY));
    std::vector<std::string> names = TRY(sys::list_dir(dir.get()));
    std::sort(names.begin(), names.end());
    if (names.size() > kMaxImageEntries) {
      return make_error(Code::kInvalidArgument, "the rootfs has more than 64 entries: " + image,
                        "Give the directory of an unpacked image, with usr, etc and the like in it.");
    }
    layout_.from_image = true;
    for (const std::string& name : names) TRY(add_image_entry(dir.get(), image, name));
    if (!taken_.contains("/etc")) add_volume("/etc", 0755, "");
    for (const MakeFile& file : name_service_files(host_network, hosts)) layout_.files.push_back(file);
    return {};
  }

  void add_system(bool host_network, const std::string& hosts) {
    SystemPlan plan = plan_system(host_network, hosts);
    for (SystemView& view : plan.views) {
      if (!taken_.contains(view.path)) layout_.views.push_back(std::move(view));
    }
    layout_.read_only = std::move(plan.read_only);
  }

  // What a program may write lies on a volume, so that it is rolled back.
  void add_usual() {
    const auto add = [&](const char* path, mode_t mode, std::vector<std::string> dirs) {
      if (!taken_.contains(path)) add_volume(path, mode, "", std::move(dirs));
    };
    add("/tmp", 01777, {});
    add("/root", 0700, {});
    add("/home", 0755, {});
    add("/run", 0755, {"lock"});
    add("/var", 0755, {"tmp", "log", "lib", "cache", "spool"});
    add("/dev/shm", 01777, {});
  }

  Result<Layout> finish() {
    const std::vector<std::string> paths(taken_.begin(), taken_.end());
    TRY(check_siblings(paths));
    return std::move(layout_);
  }

 private:
  void add_volume(const std::string& path, mode_t mode, const std::string& from, std::vector<std::string> dirs = {}) {
    int base = -1;
    if (!from.empty()) {
      base = static_cast<int>(layout_.bases.size());
      layout_.bases.push_back(from);
    }
    layout_.volumes.push_back({volume_name(path), path, mode, base, std::move(dirs)});
    taken_.insert(path);
  }

  // Names a directory of the store, so it has no slash; the number keeps "/a/b" and "/a-b" apart.
  std::string volume_name(const std::string& path) const {
    std::string name = path.substr(1);
    std::replace(name.begin(), name.end(), '/', '-');
    return std::to_string(layout_.volumes.size()) + "-" + name;
  }

  Result<void> add_image_entry(int image_fd, const std::string& image, const std::string& name) {
    // These are the sandbox's own.
    if (name == "dev" || name == "proc" || name == "sys" || name == ".deltabox") return {};
    const std::string path = "/" + name;
    if (taken_.contains(path)) return {};
    struct stat info {};
    if (::fstatat(image_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return os_error("fstatat", image + path);
    if (S_ISDIR(info.st_mode)) {
      // Not through a link: what it led to would be a directory of the host.
      add_volume(path, info.st_mode & 07777, image + path);
    } else if (S_ISLNK(info.st_mode)) {
      layout_.image_links.push_back({path, TRY(sys::read_link_at(image_fd, name))});
      taken_.insert(path);
    } else if (S_ISREG(info.st_mode)) {
      layout_.binds.push_back({image + path, path, true, false});
      taken_.insert(path);
    }
    return {};
  }

  Layout layout_;
  std::set<std::string> taken_;
};

}  // namespace

Result<void> check_siblings(const std::vector<std::string>& paths) {
  for (const std::string& outer : paths) {
    for (const std::string& inner : paths) {
      if (!is_below(inner, outer)) continue;
      return make_error(Code::kInvalidArgument, inner + " lies in the volume " + outer,
                        "Volumes can't be nested: choose another mount point.");
    }
  }
  return {};
}

std::vector<VolumeSpec> volumes_of(const Layout& layout, const std::vector<std::string>& views) {
  std::vector<VolumeSpec> volumes = layout.volumes;
  for (std::size_t index = 0; index < views.size(); ++index) {
    const int base = static_cast<int>(layout.bases.size() + index);
    const auto found = std::find_if(volumes.begin(), volumes.end(),
                                    [&](const VolumeSpec& volume) { return volume.path == views[index]; });
    if (found != volumes.end()) {
      found->base = base;
    } else {
      // Their names don't depend on which others there are: an engine that brings the sandbox back finds them again.
      volumes.push_back({views[index].substr(1), views[index], 0755, base, {}});
    }
  }
  return volumes;
}

Result<Layout> plan_layout(const v1::CreateRequest& request, bool host_network, const std::string& hosts,
                           bool writes_system) {
  Planner planner;
  TRY(planner.add_workspace(request));
  TRY(planner.add_requested(request));
  if (!request.rootfs().empty()) {
    TRY(planner.add_image(request.rootfs(), host_network, hosts));
  } else if (writes_system) {
    planner.add_system(host_network, hosts);
  }
  planner.add_usual();
  Layout layout = TRY(planner.finish());
  for (int index = 0; index < request.certificate_files_size(); ++index) {
    const std::string path = std::string(kCertificatePoint) + "/" + std::to_string(index) + ".pem";
    layout.binds.push_back({request.certificate_files(index), path, false, false});
  }
  return layout;
}

}  // namespace deltabox

#include "sandbox/skeleton.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "sandbox/host_etc.h"
#include "sys/files.h"
#include "sys/mounts.h"

namespace deltabox {

namespace {

constexpr const char* kTopLinks[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};
constexpr const char* kDevices[] = {"null", "zero", "full", "random", "urandom", "tty"};

bool stat_path(const std::string& path, struct stat& info, bool follow = true) {
  return ::fstatat(AT_FDCWD, path.c_str(), &info, follow ? 0 : AT_SYMLINK_NOFOLLOW) == 0;
}

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

// Adds MakeDir for every missing ancestor of `path` and for itself.
void add_dirs(const std::string& path, std::set<std::string>& made, std::vector<SkeletonOperation>& plan) {
  if (path.empty() || made.contains(path)) return;
  add_dirs(parent_of(path), made, plan);
  plan.push_back(MakeDir{path});
  made.insert(path);
}

void plan_trees(const std::vector<TreePlace>& trees, std::set<std::string>& made,
                std::vector<SkeletonOperation>& plan) {
  for (std::size_t index = 0; index < trees.size(); ++index) {
    const std::string& path = trees[index].path;
    if (trees[index].is_dir) {
      add_dirs(path, made, plan);
    } else {
      add_dirs(parent_of(path), made, plan);
      plan.push_back(MakeFile{path, ""});
    }
    plan.push_back(AttachTree{path, index});
  }
}

// The engine's places, which no path of a task leads to.
void plan_places(std::size_t volume_count, std::set<std::string>& made, std::vector<SkeletonOperation>& plan) {
  add_dirs("/.deltabox", made, plan);
  for (const char* path : {kStorePoint, kBasePoint, kParkingPoint}) {
    plan.push_back(MakeDir{path, 0700});
    made.insert(path);
  }
  for (std::size_t index = 0; index < volume_count; ++index) {
    plan.push_back(MakeDir{std::string(kParkingPoint) + "/" + std::to_string(index), 0700});
  }
}

void plan_host_directories(const std::set<std::string>& writable, std::set<std::string>& made,
                           std::vector<SkeletonOperation>& plan) {
  struct stat info {};
  // What dpkg finds to be there it leaves alone, and it could not make anything in the root.
  for (const char* path : {"/boot", "/media", "/mnt", "/srv"}) add_dirs(path, made, plan);
  for (const std::string& path : host_directories()) {
    add_dirs(path, made, plan);
    if (!writable.contains(path)) plan.push_back(Bind{path, path, true});
  }
  for (const char* name : kTopLinks) {
    const std::string path = std::string("/") + name;
    if (!stat_path(path, info, false) || !S_ISLNK(info.st_mode)) continue;
    const Result<std::string> target = sys::read_link_at(AT_FDCWD, path);
    if (target.ok()) plan.push_back(MakeSymlink{path, target.value()});
  }
}

void plan_host_etc(const SkeletonOptions& options, std::set<std::string>& made, std::vector<SkeletonOperation>& plan) {
  struct stat info {};
  add_dirs("/etc", made, plan);
  for (const char* name : allowed_etc()) {
    const std::string path = std::string("/etc/") + name;
    if (!stat_path(path, info)) continue;
    if (S_ISDIR(info.st_mode)) {
      add_dirs(path, made, plan);
      plan.push_back(Bind{path, path, true});
    } else if (S_ISREG(info.st_mode)) {
      plan.push_back(MakeFile{path, ""});
      plan.push_back(Bind{path, path, false});
    }
  }
  for (const MakeFile& file : account_files()) plan.push_back(file);
  for (const MakeFile& file : name_service_files(options.host_network, options.hosts)) plan.push_back(file);
  // Bound, since the host rewrites it as networks change.
  if (options.host_network && stat_path("/etc/resolv.conf", info)) {
    plan.push_back(Bind{"/etc/resolv.conf", "/etc/resolv.conf"});
  }
}

void plan_devices(std::set<std::string>& made, std::vector<SkeletonOperation>& plan) {
  struct stat info {};
  add_dirs("/dev", made, plan);
  for (const char* name : kDevices) {
    const std::string path = std::string("/dev/") + name;
    if (!stat_path(path, info)) continue;
    plan.push_back(MakeFile{path, ""});
    plan.push_back(Bind{path, path, false, true});
  }
  add_dirs("/dev/pts", made, plan);
  plan.push_back(MountDevpts{"/dev/pts"});
  plan.push_back(MakeSymlink{"/dev/ptmx", "pts/ptmx"});
  plan.push_back(MakeSymlink{"/dev/fd", "/proc/self/fd"});
  plan.push_back(MakeSymlink{"/dev/stdin", "/proc/self/fd/0"});
  plan.push_back(MakeSymlink{"/dev/stdout", "/proc/self/fd/1"});
  plan.push_back(MakeSymlink{"/dev/stderr", "/proc/self/fd/2"});
}

}  // namespace

std::vector<std::string> host_directories() {
  std::vector<std::string> found{"/usr"};
  struct stat info {};
  // On a system whose /bin and the like are no links.
  for (const char* name : kTopLinks) {
    const std::string path = std::string("/") + name;
    if (stat_path(path, info, false) && S_ISDIR(info.st_mode)) found.push_back(path);
  }
  if (stat_path("/opt", info) && S_ISDIR(info.st_mode)) found.push_back("/opt");
  return found;
}

std::vector<SkeletonOperation> plan_skeleton(const std::vector<std::string>& volume_paths,
                                             const SkeletonOptions& options) {
  std::vector<SkeletonOperation> plan;
  std::set<std::string> made;
  struct stat info {};
  plan_places(volume_paths.size(), made, plan);
  if (options.from_image) {
    for (const MakeSymlink& link : options.image_links) plan.push_back(link);
  } else {
    plan_host_directories(options.writable, made, plan);
    if (!options.writable.contains("/etc")) plan_host_etc(options, made, plan);
  }
  plan_devices(made, plan);
  for (const char* path : {"/proc", "/sys"}) add_dirs(path, made, plan);
  plan.push_back(MountProc{"/proc"});
  // The names of the keys of whoever started the sandbox: an ordinary user's id is the same inside.
  for (const char* path : {"/proc/keys", "/proc/key-users"}) {
    if (stat_path(path, info)) plan.push_back(MaskFile{path});
  }
  for (const std::string& path : volume_paths) add_dirs(path, made, plan);
  plan_trees(options.trees, made, plan);
  return plan;
}

namespace {

// Paths of the plan are absolute; below root_fd they are relative.
const char* relative(const std::string& path) { return path.c_str() + 1; }

struct Executor {
  int root_fd;
  const SkeletonSources& sources;

  Result<void> operator()(const MakeDir& step) const {
    return sys::make_dir_at(root_fd, relative(step.path), step.mode);
  }
  Result<void> operator()(const MakeSymlink& step) const {
    if (::symlinkat(step.target.c_str(), root_fd, relative(step.path)) != 0) return os_error("symlinkat", step.path);
    return {};
  }
  Result<void> operator()(const MakeFile& step) const {
    UniqueFd fd = TRY(sys::open_at(root_fd, relative(step.path), O_WRONLY | O_CREAT | O_EXCL, 0644));
    return sys::write_all(fd.get(), step.contents.data(), step.contents.size());
  }
  Result<void> operator()(const Bind& step) const {
    UniqueFd mount = TRY(sys::open_tree_clone(AT_FDCWD, step.host_path, step.is_dir));
    if (!step.writable) {
      TRY(sys::set_mount_attributes(mount.get(), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, step.is_dir));
    }
    return sys::move_mount_to(mount.get(), root_fd, relative(step.path));
  }
  Result<void> operator()(const MountDevpts& step) const {
    UniqueFd context = TRY(sys::fs_open("devpts"));
    TRY(sys::fs_config_string(context.get(), "ptmxmode", "0666"));
    TRY(sys::fs_config_string(context.get(), "mode", "0620"));
    TRY(sys::fs_config_create(context.get()));
    UniqueFd mount = TRY(sys::fs_mount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
    return sys::move_mount_to(mount.get(), root_fd, relative(step.path));
  }
  Result<void> operator()(const MountProc& step) const {
    return sys::move_mount_to(sources.proc_mount_fd, root_fd, relative(step.path));
  }
  Result<void> operator()(const MaskFile& step) const {
    UniqueFd mount = TRY(sys::open_tree_clone(AT_FDCWD, "/dev/null", false));
    return sys::move_mount_to(mount.get(), root_fd, relative(step.path));
  }
  Result<void> operator()(const AttachTree& step) const {
    const int tree_fd = sources.tree_fds[step.index];
    TRY(sys::set_mount_attributes(tree_fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID, false));
    return sys::move_mount_to(tree_fd, root_fd, relative(step.path));
  }
};

}  // namespace

Result<void> apply_skeleton(int root_fd, const std::vector<SkeletonOperation>& operations,
                            const SkeletonSources& sources) {
  const mode_t previous = ::umask(0);
  Result<void> result;
  for (const SkeletonOperation& operation : operations) {
    result = std::visit(Executor{root_fd, sources}, operation);
    if (!result.ok()) break;
  }
  ::umask(previous);
  return result;
}

}  // namespace deltabox

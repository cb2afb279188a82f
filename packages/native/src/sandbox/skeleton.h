// The read-only root of a sandbox, as a list of typed operations. The plan is pure (it only asks the host what exists);
// apply executes it, one operation after another, in a fresh tmpfs.
#pragma once

#include <sys/types.h>

#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

struct MakeDir {
  std::string path;
  mode_t mode = 0755;
};
struct MakeSymlink {
  std::string path;
  std::string target;
};
struct MakeFile {
  std::string path;
  std::string contents;
};
// A read-only bind of a host path, or of a device when `writable`.
struct Bind {
  std::string path;
  std::string host_path;
  bool is_dir = false;
  bool writable = false;
};
struct MountDevpts {
  std::string path;
};
struct MountProc {
  std::string path;
};
using SkeletonOperation = std::variant<MakeDir, MakeSymlink, MakeFile, Bind, MountDevpts, MountProc>;

// The store's mount point in M0 and the parking places of old volume tops in M1: directories 0, 1, … by volume, below
// one that is covered by another mount, so that no path leads to them. The engine holds a descriptor from before the
// cover.
inline constexpr const char* kStorePoint = "/.deltabox/store";
inline constexpr const char* kBasePoint = "/.deltabox/base";
inline constexpr const char* kParkingPoint = "/.deltabox/parking";

// volume_paths: the mount points of the volumes, absolute.
std::vector<SkeletonOperation> plan_host_skeleton(const std::vector<std::string>& volume_paths);

// root_fd: the tmpfs. proc_mount_fd: a detached proc mount of the tasks' pid namespace.
Result<void> apply_skeleton(int root_fd, const std::vector<SkeletonOperation>& operations, int proc_mount_fd);

}  // namespace deltabox

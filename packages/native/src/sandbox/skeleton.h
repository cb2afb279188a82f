// The read-only root of a sandbox, as a list of typed operations. The plan is pure (it only asks the host what exists);
// apply executes it, one operation after another, in a fresh tmpfs.
#pragma once

#include <sys/types.h>

#include <set>
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
// Makes a file of another file system read as empty.
struct MaskFile {
  std::string path;
};
// A detached mount that was made earlier, with the host's privileges: made read-only and attached.
struct AttachTree {
  std::string path;
  std::size_t index = 0;
};
using SkeletonOperation =
    std::variant<MakeDir, MakeSymlink, MakeFile, Bind, MountDevpts, MountProc, MaskFile, AttachTree>;

// The store's mount point in M0 and the parking places of old volume tops in M1: directories 0, 1, … by volume, below
// one that is covered by another mount, so that no path leads to them. The engine holds a descriptor from before the
// cover.
inline constexpr const char* kStorePoint = "/.deltabox/store";
inline constexpr const char* kBasePoint = "/.deltabox/base";
inline constexpr const char* kParkingPoint = "/.deltabox/parking";

// Certificate files of the host: `<index>.pem`.
inline constexpr const char* kCertificatePoint = "/.deltabox/certificates";

// Where a detached mount goes.
struct TreePlace {
  std::string path;
  bool is_dir = false;
};

struct SkeletonOptions {
  bool from_image = false;               // system directories are volumes; nothing of the host's is shown
  std::vector<MakeSymlink> image_links;  // of the image's top directory
  std::set<std::string> writable;        // system directories that are volumes over the host's
  bool host_network = false;             // name service of the host, else of loopback alone
  std::string hosts;                     // further lines of /etc/hosts
  std::vector<TreePlace> trees;
};

// volume_paths: the mount points of the volumes, absolute.
std::vector<SkeletonOperation> plan_skeleton(const std::vector<std::string>& volume_paths,
                                             const SkeletonOptions& options = {});

// The host's directories of programs: /usr, /opt and what of /bin, /lib and the like is no link.
std::vector<std::string> host_directories();

// Detached mounts that the plan's operations attach.
struct SkeletonSources {
  int proc_mount_fd = -1;  // of the tasks' pid namespace
  std::vector<int> tree_fds;
};

// root_fd: the tmpfs.
Result<void> apply_skeleton(int root_fd, const std::vector<SkeletonOperation>& operations,
                            const SkeletonSources& sources);

}  // namespace deltabox

// Detached copies of the host directories a sandbox is built from, made before the engine leaves the host's tree.
//
// The workspace needs an idmapped mount when the sandbox has a range of ids (its files belong to host ids that are not
// in the range); only a process with the host's privileges can make one, so a short-lived host helper does it and
// passes the mounts. System directories are never shown idmapped but through views (system_view.h): what their modes
// forbid to others stays unreadable inside, whoever owns it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "sandbox/id_map.h"
#include "sandbox/system_view.h"

namespace deltabox {

struct BaseTree {
  std::string path;        // on the host
  bool idmapped = false;   // map host ids 0.. to the sandbox's range
  bool recursive = false;  // with the mounts beneath it
};

// Paths of mount points strictly below `path`; a workspace must have none.
Result<std::vector<std::string>> mounts_below(const std::string& path);

// Detached mounts.
struct HostMounts {
  std::vector<UniqueFd> trees;
  std::vector<Result<UniqueFd>> views;  // one that can't be had costs the sandbox nothing but that
};

// The host helper: forked before the engine enters its user namespace. It works while the engine goes on.
class HostHelper {
 public:
  // With an unranged map there is nothing that the engine can't do itself, and no helper is started.
  // Views need a ranged one.
  static Result<HostHelper> start(const IdMap& map, std::vector<BaseTree> trees, std::vector<SystemView> views);
  // Called by the engine right after unshare(CLONE_NEWUSER): its id maps are written, and it gets a mount namespace.
  Result<void> map_ids(int proc_fd);
  // All mounts, in order.
  Result<HostMounts> take_mounts();
  // Waits for the helper's end, which takes its mount namespace apart.
  void reap();

 private:
  IdMap map_;
  std::vector<BaseTree> trees_;
  std::vector<SystemView> views_;
  UniqueFd socket_;
  pid_t pid_ = -1;
};

}  // namespace deltabox

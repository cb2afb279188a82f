// Builds the namespaces of one sandbox around the calling engine.
//
//   host ── U1: engine's user namespace ── U2: tasks' user namespace (pid, ipc, uts, net, time)
//            M1: what tasks see (skeleton + volumes)      M0: M1 plus the store; the engine builds overlays there
//
// Invariants afterwards:
//  1. No task has a capability in U1, so none can unmount, trace the engine or take its descriptors.
//  2. The store is mounted in M0 only.
//  3. The engine reaches the host's tree by no path, only by the descriptors it kept (/proc, the store, the workspace).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "sandbox/cgroup.h"
#include "sandbox/id_map.h"
#include "sandbox/init_client.h"
#include "sandbox/skeleton.h"
#include "sandbox/system_view.h"

namespace deltabox {

// A file or directory of the host, shown read-only at `path`.
struct HostBind {
  std::string host_path;
  std::string path;
  bool idmapped = false;
  bool is_dir = false;
};

struct NamespaceConfig {
  IdMap id_map;
  std::vector<std::string> bases;          // host directories that are the bases of volumes
  std::vector<HostBind> binds;             // what else of the host is shown, read-only
  std::vector<SystemView> views;           // bases too; their directories become volumes, where they can be had
  std::string store;                       // host directory, owned by the sandbox's ids
  std::vector<std::string> donors;         // stores of the sandboxes that this one was forked from
  std::vector<std::uint64_t> last_layers;  // of theirs that it uses
  std::string init_binary;                 // host path
  std::vector<std::string> volume_paths;
  SkeletonOptions skeleton;
  InitOptions init_options;
  const Cgroups* cgroups = nullptr;  // where tasks belong; nullptr: where the engine is
};

struct SandboxNamespaces {
  std::string boot_id;   // of the kernel; read where the host's /proc is
  UniqueFd host_proc;    // the host's /proc: tasks by the engine's own tids
  UniqueFd self_fd_dir;  // /proc/self/fd of the host's /proc, for calls that take only paths
  // A pipe to copy what waits in others. Where root starts the sandbox it is root's, and large: the buffers of all
  // sandboxes' pipes together have a bound (pipe-user-pages-soft), beyond which their programs would get small ones.
  std::pair<UniqueFd, UniqueFd> scratch_pipe;
  UniqueFd m0;  // namespace descriptors
  UniqueFd m1;
  UniqueFd m1_root;                        // "/" as tasks see it
  UniqueFd parking;                        // the parking places below their cover, in M1
  UniqueFd store;                          // root of the store, in M0
  std::vector<UniqueFd> donors;            // roots of their stores, read-only, in M0
  std::vector<std::uint64_t> last_layers;  // of the donors, as configured
  std::vector<UniqueFd> bases;             // the host directories below volumes, in M0; then those of `views`
  std::vector<std::string> views;          // paths of the volumes over views
  std::vector<std::string> views_refused;  // sentences: which there are not, and why
  HostTid init;
  InitClient init_client;
  InitOptions init_options;  // what init is asked for when mounts are ready

  // Both are no-ops when the engine is already there. They cost about 4 µs: call them before a pause.
  Result<void> enter_m0();
  Result<void> enter_m1();

 private:
  friend Result<SandboxNamespaces> build_namespaces(const NamespaceConfig& config);
  bool in_m1_ = false;
};

Result<SandboxNamespaces> build_namespaces(const NamespaceConfig& config);

}  // namespace deltabox

#include "sandbox/namespaces.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "sandbox/base_trees.h"
#include "sandbox/init/init_abi.h"
#include "sandbox/skeleton.h"
#include "sys/files.h"
#include "sys/mounts.h"
#include "sys/sockets.h"

namespace deltabox {

namespace {

// The child of clone3: waits until its ids are mapped (an exec before that would lose all capabilities, since an
// unmapped user is not root), then becomes init.
[[noreturn]] void become_init(int gate_fd, int control_fd, int binary_fd) {
  char ignored;
  if (::read(gate_fd, &ignored, 1) != 1) ::_exit(1);
  if (::dup2(control_fd, init_abi::kControlFd) < 0) ::_exit(1);
  (void)::setpriority(PRIO_PROCESS, 0, 0);  // the engine's own may be higher
  // The binary's descriptor is close-on-exec and above the control socket's slot.
  for (int slot = 0; slot < 3; ++slot) {
    const int null_fd = ::open("/dev/null", O_RDWR);
    if (null_fd >= 0 && null_fd != slot) {
      ::dup2(null_fd, slot);
      ::close(null_fd);
    }
  }
  char name[] = "init";
  char* const arguments[] = {name, nullptr};
  char* const environment[] = {nullptr};
  ::syscall(SYS_execveat, binary_fd, "", arguments, environment, AT_EMPTY_PATH);
  ::_exit(127);
}

// A user namespace keeps its creator's RLIMIT_NPROC as the most that it may hold, whatever user inside starts them
// (ucounts, 5.14). The engine, init and a helper count too.
constexpr std::size_t kMaxBootIdBytes = 128;
constexpr int kScratchPipeBytes = 1 << 20;  // as much as an ordinary user's pipe may have (pipe-max-size)
constexpr std::uint64_t kOwnProcesses = 3;

Result<void> set_process_limit(std::uint64_t processes) {
  if (processes == 0) return {};
  rlimit limit{};
  if (::getrlimit(RLIMIT_NPROC, &limit) != 0) return os_error("getrlimit");
  limit.rlim_cur = std::min<rlim_t>(processes + kOwnProcesses, limit.rlim_max);
  if (::setrlimit(RLIMIT_NPROC, &limit) != 0) return os_error("setrlimit", "RLIMIT_NPROC");
  return {};
}

Result<HostTid> start_init(UniqueFd control, int binary_fd, int proc_fd, const NamespaceConfig& config) {
  auto [gate_read, gate_write] = TRY(sys::make_pipe(0));
  rlimit own_limit{};
  if (::getrlimit(RLIMIT_NPROC, &own_limit) != 0) return os_error("getrlimit");
  clone_args arguments{};
  arguments.flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWTIME;
  if (config.init_options.own_network) arguments.flags |= CLONE_NEWNET;
  arguments.exit_signal = SIGCHLD;
  TRY(set_process_limit(config.init_options.processes));
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  const int failure = errno;
  ::setrlimit(RLIMIT_NPROC, &own_limit);
  errno = failure;
  if (pid < 0) {
    Error error = os_error("clone3", "user, pid, ipc, uts, net and time namespaces");
    error.next_step = "Run `deltabox doctor`: it tries each namespace and says what to change.";
    return error;
  }
  if (pid == 0) {
    gate_write.reset();
    become_init(gate_read.get(), control.get(), binary_fd);
  }
  const HostTid init{static_cast<pid_t>(pid)};
  TRY(write_identity_maps(proc_fd, init.value, config.id_map));
  if (config.cgroups != nullptr) TRY(config.cgroups->admit(init));
  if (::write(gate_write.get(), "g", 1) != 1) return os_error("write", "init's gate");
  return init;
}

// A proc mount shows the pid namespace of the task that makes it, so a grandchild inside that namespace does. It must
// happen while the host's own /proc is still in reach of this mount namespace: the kernel compares the two
// (mount_too_revealing).
Result<UniqueFd> mount_proc_of(HostTid init, int proc_fd) {
  auto [ours, theirs] = TRY(sys::make_socket_pair(SOCK_SEQPACKET));
  UniqueFd pid_namespace = TRY(sys::open_at(proc_fd, std::to_string(init.value) + "/ns/pid", O_RDONLY));
  const pid_t child = ::fork();
  if (child < 0) return os_error("fork", "proc mount");
  if (child == 0) {
    if (::setns(pid_namespace.get(), CLONE_NEWPID) != 0) ::_exit(errno);
    const pid_t inside = ::fork();
    if (inside < 0) ::_exit(errno);
    if (inside > 0) {
      int status = 0;
      ::waitpid(inside, &status, 0);
      ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EIO);
    }
    const auto mount = [&]() -> Result<UniqueFd> {
      UniqueFd context = TRY(sys::fs_open("proc"));
      TRY(sys::fs_config_create(context.get()));
      return sys::fs_mount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    };
    const Result<UniqueFd> made = mount();
    if (!made.ok()) ::_exit(made.error().os_errno);
    const Result<void> sent = sys::send_with_fds(theirs.get(), "p", 1, {made.value().get()});
    ::_exit(sent.ok() ? 0 : EIO);
  }
  theirs.reset();
  int status = 0;
  ::waitpid(child, &status, 0);
  const int reason = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
  if (reason != 0) {
    Error error = os_error_from(reason, "mount", "proc");
    error.next_step = "The surrounding container masks parts of /proc; run `deltabox doctor` for the option it needs.";
    return error;
  }
  char byte;
  sys::Received received = TRY(sys::receive_with_fds(ours.get(), &byte, 1));
  if (received.fds.size() != 1) return make_error(Code::kInternal, "the proc mount was not handed over");
  return std::move(received.fds[0]);
}

// Makes a tmpfs the root of this mount namespace and fills it. The tmpfs is stacked on "/", so that the host's tree
// stays in reach by absolute paths until the pivot.
Result<UniqueFd> build_root(const NamespaceConfig& config, const std::vector<std::string>& views,
                            const SkeletonSources& sources) {
  UniqueFd context = TRY(sys::fs_open("tmpfs"));
  TRY(sys::fs_config_string(context.get(), "mode", "0755"));
  TRY(sys::fs_config_string(context.get(), "size", "8m"));
  TRY(sys::fs_config_create(context.get()));
  UniqueFd root = TRY(sys::fs_mount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  TRY(sys::move_mount_to(root.get(), AT_FDCWD, "/"));
  SkeletonOptions options = config.skeleton;
  for (const HostBind& bind : config.binds) options.trees.push_back({bind.path, bind.is_dir});
  options.writable.insert(views.begin(), views.end());
  std::vector<std::string> volume_paths = config.volume_paths;
  for (const std::string& path : views) {
    if (std::find(volume_paths.begin(), volume_paths.end(), path) == volume_paths.end()) volume_paths.push_back(path);
  }
  TRY(apply_skeleton(root.get(), plan_skeleton(volume_paths, options), sources));
  UniqueFd parking = TRY(sys::open_at(root.get(), kParkingPoint + 1, O_PATH | O_DIRECTORY));
  // What hides parked volume tops from tasks (deltafs/volume.h).
  UniqueFd cover_context = TRY(sys::fs_open("tmpfs"));
  TRY(sys::fs_config_string(cover_context.get(), "mode", "0000"));
  TRY(sys::fs_config_string(cover_context.get(), "size", "4k"));
  TRY(sys::fs_config_create(cover_context.get()));
  UniqueFd cover = TRY(sys::fs_mount(cover_context.get(), MOUNT_ATTR_RDONLY));
  TRY(sys::move_mount_to(cover.get(), root.get(), kParkingPoint + 1));
  if (::fchdir(root.get()) != 0) return os_error("fchdir", "new root");
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return os_error("pivot_root");
  if (::umount2(".", MNT_DETACH) != 0) return os_error("umount2", "old root");
  if (::chdir("/") != 0) return os_error("chdir", "/");
  UniqueFd new_root = TRY(sys::open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
  TRY(sys::set_mount_attributes(new_root.get(), MOUNT_ATTR_RDONLY, false));
  return parking;
}

Result<void> become_namespace_root(const IdMap& map) {
  if (map.ranged && ::setgroups(0, nullptr) != 0) return os_error("setgroups");
  if (::setresgid(0, 0, 0) != 0) return os_error("setresgid");
  if (::setresuid(0, 0, 0) != 0) return os_error("setresuid");
  // setresuid made the engine non-dumpable, which gives init's /proc files to an id that is not mapped here.
  if (::prctl(PR_SET_DUMPABLE, 1) != 0) return os_error("prctl", "PR_SET_DUMPABLE");
  return {};
}

// overlayfs and a bind that is not recursive show an empty directory where another file system is mounted.
Result<void> refuse_mounts_below(const std::string& path) {
  const std::vector<std::string> inner = TRY(mounts_below(path));
  if (inner.empty()) return {};
  return make_error(Code::kInvalidArgument, path + " contains a mount point: " + inner.front(),
                    "Choose a directory without mounts below it, or unmount it first.");
}

// In this order: the store, the bases, the donors, the binds.
std::vector<BaseTree> host_trees(const NamespaceConfig& config) {
  std::vector<BaseTree> trees{BaseTree{config.store, false, false}};
  for (const std::string& base : config.bases) trees.push_back({base, config.id_map.ranged, false});
  for (const std::string& donor : config.donors) trees.push_back({donor, false, false});
  for (const HostBind& bind : config.binds) {
    trees.push_back({bind.host_path, bind.idmapped && config.id_map.ranged, false});
  }
  return trees;
}

// A detached mount, and which directory of it is the base of a volume.
struct BaseMount {
  UniqueFd mount;
  std::string dir = ".";
};

// The places for the bases are made on a tmpfs that only M0 has, so that M1 does not show how many there are.
Result<std::vector<UniqueFd>> attach_bases(const std::vector<BaseMount>& mounts) {
  UniqueFd context = TRY(sys::fs_open("tmpfs"));
  TRY(sys::fs_config_string(context.get(), "mode", "0700"));
  TRY(sys::fs_config_create(context.get()));
  UniqueFd places = TRY(sys::fs_mount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  TRY(sys::move_mount_to(places.get(), AT_FDCWD, kBasePoint));
  std::vector<UniqueFd> bases;
  for (const BaseMount& base : mounts) {
    const std::string place = std::string(kBasePoint) + "/" + std::to_string(bases.size() + 1);
    TRY(sys::make_dir_at(AT_FDCWD, place, 0700));
    TRY(sys::move_mount_to(base.mount.get(), AT_FDCWD, place));
    bases.push_back(TRY(sys::open_at(AT_FDCWD, place + "/" + base.dir, O_RDONLY | O_DIRECTORY)));
  }
  return bases;
}

// Beside the bases.
Result<std::vector<UniqueFd>> attach_donors(const std::vector<UniqueFd>& trees, std::size_t first, std::size_t count) {
  std::vector<UniqueFd> donors;
  for (std::size_t index = 0; index < count; ++index) {
    const std::string place = std::string(kBasePoint) + "/donor-" + std::to_string(index);
    TRY(sys::make_dir_at(AT_FDCWD, place, 0700));
    TRY(sys::set_mount_attributes(trees[first + index].get(), MOUNT_ATTR_RDONLY, false));
    TRY(sys::move_mount_to(trees[first + index].get(), AT_FDCWD, place));
    donors.push_back(TRY(sys::open_at(AT_FDCWD, place, O_RDONLY | O_DIRECTORY)));
  }
  return donors;
}

// In this order: the bases, the views that there are.
std::vector<BaseMount> take_bases(const NamespaceConfig& config, const std::vector<SystemView>& views,
                                  HostMounts& mounts, SandboxNamespaces& built) {
  std::vector<BaseMount> bases;
  for (std::size_t index = 0; index < config.bases.size(); ++index) {
    bases.push_back({std::move(mounts.trees[1 + index]), "."});
  }
  for (std::size_t index = 0; index < views.size(); ++index) {
    const std::string& path = views[index].path;
    if (mounts.views[index].ok()) {
      built.views.push_back(path);
      bases.push_back({mounts.views[index].release_value(), root_of(views[index])});
    } else {
      built.views_refused.push_back(path + " can't be written inside: " + mounts.views[index].error().describe());
    }
  }
  return bases;
}

Result<void> enter(int namespace_fd, const char* name) {
  if (::setns(namespace_fd, CLONE_NEWNS) != 0) return os_error("setns", name);
  return {};
}

}  // namespace

Result<void> SandboxNamespaces::enter_m0() {
  if (!in_m1_) return {};
  TRY(enter(m0.get(), "M0"));
  in_m1_ = false;
  return {};
}

Result<void> SandboxNamespaces::enter_m1() {
  if (in_m1_) return {};
  TRY(enter(m1.get(), "M1"));
  in_m1_ = true;
  return {};
}

Result<SandboxNamespaces> build_namespaces(const NamespaceConfig& config) {
  SandboxNamespaces built;
  built.last_layers = config.last_layers;
  for (const std::string& base : config.bases) TRY(refuse_mounts_below(base));
  for (const HostBind& bind : config.binds) TRY(refuse_mounts_below(bind.host_path));
  built.host_proc = TRY(sys::open_at(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY));
  built.boot_id = TRY(sys::read_file_at(built.host_proc.get(), "sys/kernel/random/boot_id", kMaxBootIdBytes));
  while (!built.boot_id.empty() && built.boot_id.back() == '\n') built.boot_id.pop_back();
  built.self_fd_dir = TRY(sys::open_at(built.host_proc.get(), "self/fd", O_RDONLY | O_DIRECTORY));
  built.scratch_pipe = TRY(sys::make_pipe(O_NONBLOCK));
  if (config.id_map.ranged) (void)::fcntl(built.scratch_pipe.second.get(), F_SETPIPE_SZ, kScratchPipeBytes);
  UniqueFd binary = TRY(sys::open_at(AT_FDCWD, config.init_binary, O_PATH));
  // "/" is what clone3's child and pivot_root expect as working directory.
  if (::chdir("/") != 0) return os_error("chdir", "/");
  const std::vector<SystemView> views = config.id_map.ranged ? config.views : std::vector<SystemView>();
  HostHelper helper = TRY(HostHelper::start(config.id_map, host_trees(config), views));
  if (::unshare(CLONE_NEWUSER) != 0) {
    Error error = os_error("unshare", "CLONE_NEWUSER");
    error.next_step = "This kernel or its policy refuses user namespaces; run `deltabox doctor`.";
    return error;
  }
  TRY(helper.map_ids(built.host_proc.get()));
  TRY(become_namespace_root(config.id_map));
  auto [control, init_control] = TRY(sys::make_socket_pair(SOCK_SEQPACKET));
  built.init = TRY(start_init(std::move(init_control), binary.get(), built.host_proc.get(), config));
  built.init_client = InitClient(std::move(control));
  built.init_options = config.init_options;
  UniqueFd proc_mount = TRY(mount_proc_of(built.init, built.host_proc.get()));
  HostMounts mounts = TRY(helper.take_mounts());
  std::vector<BaseMount> bases = take_bases(config, views, mounts, built);
  const std::vector<UniqueFd>& trees = mounts.trees;
  std::vector<int> bind_fds;
  for (std::size_t index = 1 + config.bases.size() + config.donors.size(); index < trees.size(); ++index) {
    bind_fds.push_back(trees[index].get());
  }
  built.parking = TRY(build_root(config, built.views, {proc_mount.get(), bind_fds}));
  built.m1 = TRY(sys::open_at(built.host_proc.get(), "self/ns/mnt", O_RDONLY));
  built.m1_root = TRY(sys::open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
  if (::unshare(CLONE_NEWNS) != 0) return os_error("unshare", "M0");
  built.m0 = TRY(sys::open_at(built.host_proc.get(), "self/ns/mnt", O_RDONLY));
  TRY(sys::move_mount_to(trees[0].get(), AT_FDCWD, kStorePoint));
  built.bases = TRY(attach_bases(bases));
  built.donors = TRY(attach_donors(trees, 1 + config.bases.size(), config.donors.size()));
  built.store = TRY(sys::open_at(AT_FDCWD, kStorePoint, O_RDONLY | O_DIRECTORY));
  helper.reap();
  return built;
}

}  // namespace deltabox

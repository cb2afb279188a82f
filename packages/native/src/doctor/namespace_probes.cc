// Probes of what the walls of a sandbox are made of: ids, namespaces, mounts, /proc and the sandbox's pid 1.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "doctor/actors.h"
#include "doctor/probe.h"
#include "doctor/sandbox_init.h"
#include "sys/files.h"
#include "sys/mounts.h"

namespace deltabox::doctor {

namespace {

Result<std::string> probe_architecture(const Context&) {
  utsname name{};
  if (::uname(&name) != 0) return os_error("uname");
  const std::string found = std::string(name.sysname) + " " + name.release + " on " + name.machine;
  if (std::strcmp(name.sysname, "Linux") != 0 || std::strcmp(name.machine, "x86_64") != 0) {
    return make_error(Code::kUnsupported, "found " + found);
  }
  return found;
}

void say_ids(int socket_fd) {
  // An unmapped id reads as the overflow id, 65534.
  say_to_prober(socket_fd, ::getuid() == 0 && ::getgid() == 0 ? 0 : -EOVERFLOW);
}

Result<std::string> probe_user_namespaces(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kIdentity, 0, say_ids));
    TRY(task.hear("root in the inner user namespace"));
    const IdMap& map = context.id_map;
    return "two nested, " + (map.ranged ? std::to_string(map.count) + " ids from " : std::string("the one id ")) +
           std::to_string(map.outside_uid);
  });
}

Result<std::string> probe_mount_namespace(const Context& context) {
  // A sandbox started by root has a helper that stays in the host's user namespace and needs a mount namespace as well.
  if (context.id_map.ranged) TRY(make_private_mounts());
  return as_engine(context, [&]() -> Result<std::string> {
    TRY(make_private_mounts());
    const UniqueFd root = TRY(mount_tmpfs_on_root());
    TRY(sys::make_dir_at(root.get(), "probe", 0700));
    TRY(sys::write_file_at(root.get(), "probe/file", "x"));
    return std::string("a private one with a tmpfs in it");
  });
}

void say_namespaces(int socket_fd) {
  if (::getpid() != 1) return say_to_prober(socket_fd, -ESRCH);
  static constexpr char kName[] = "probe";
  say_to_prober(socket_fd, ::sethostname(kName, sizeof kName - 1) == 0 ? 0 : -errno);
}

struct NamedNamespace {
  std::uint64_t flag;
  const char* name;
};
constexpr NamedNamespace kNamespaces[] = {
    {CLONE_NEWPID, "pid"}, {CLONE_NEWIPC, "ipc"}, {CLONE_NEWUTS, "uts"}, {CLONE_NEWNET, "net"}, {CLONE_NEWTIME, "time"},
};

// clone3 does not say which of its flags it refused.
Error blame_namespace(const Context& context, Error error) {
  for (const NamedNamespace& one : kNamespaces) {
    const auto nothing = [](int) {};
    const Result<ProbeTask> alone = ProbeTask::start(context, ProbeTask::Ids::kIdentity, one.flag, nothing);
    if (alone.ok()) continue;
    error.subject = std::string("a ") + one.name + " namespace";
    return error;
  }
  error.subject = "pid, ipc, uts, net and time namespaces together";
  return error;
}

Result<std::string> probe_namespaces(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    Result<ProbeTask> task = ProbeTask::start(context, ProbeTask::Ids::kIdentity, kSandboxNamespaces, say_namespaces);
    if (!task.ok()) return blame_namespace(context, task.release_error());
    TRY(task.value().hear("pid 1 with a host name of its own"));
    return std::string("pid, ipc, uts, net and time by one clone3");
  });
}

Result<std::string> probe_proc_mount(const Context& context) {
  return as_engine(context, [&]() -> Result<std::string> {
    TRY(make_private_mounts());
    const auto wait_for_end = [](int socket_fd) { wait_for_prober(socket_fd); };
    ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kIdentity, kSandboxNamespaces, wait_for_end));
    const UniqueFd mount = TRY(mount_proc_of(context, task.tid()));
    const UniqueFd root = TRY(mount_tmpfs_on_root());
    TRY(sys::make_dir_at(root.get(), "proc", 0755));
    TRY(sys::move_mount_to(mount.get(), root.get(), "proc"));
    const UniqueFd proc = TRY(sys::open_at(root.get(), "proc", O_RDONLY | O_DIRECTORY));
    const std::vector<int> pids = TRY(sys::list_numeric_dir(proc.get()));
    if (pids != std::vector<int>{1}) return make_error(Code::kInternal, "the new /proc shows other processes");
    return std::string("of a new pid namespace, showing pid 1 alone");
  });
}

Result<std::string> probe_init(const Context& context) {
  const UniqueFd binary = TRY(sys::open_at(AT_FDCWD, context.init_binary, O_PATH));
  return as_engine(context, [&]() -> Result<std::string> {
    SandboxInit init = TRY(SandboxInit::start(context, binary.get()));
    TRY(init.set_up());
    return std::string("started, loopback up, filter installed");
  });
}

Result<std::string> probe_directory_renames(const Context& context) {
  const UniqueFd binary = TRY(sys::open_at(AT_FDCWD, context.init_binary, O_PATH));
  return as_engine(context, [&]() -> Result<std::string> {
    SandboxInit init = TRY(SandboxInit::start(context, binary.get()));
    const UniqueFd listener = TRY(init.set_up());
    if (!listener) {
      return make_error(Code::kUnsupported, "the filter of the tasks got no listener",
                        "Nothing is needed, unless programs inside rename directories of the project or of a "
                        "checkpoint: they get EXDEV, and mv copies. The seccomp filter of a surrounding container has "
                        "a listener of its own, and the kernel allows one: start that container without it.");
    }
    return std::string("the filter of the tasks has a listener");
  });
}

}  // namespace

std::vector<Probe> namespace_probes() {
  return {
      {"architecture", Topic::kMachine, true, nullptr, probe_architecture},
      {"user-namespaces", Topic::kNamespaces, true, nullptr, probe_user_namespaces},
      {"mount-namespace", Topic::kNamespaces, true, "user-namespaces", probe_mount_namespace},
      {"namespaces", Topic::kNamespaces, true, "user-namespaces", probe_namespaces},
      {"proc-mount", Topic::kProcMount, true, "namespaces", probe_proc_mount},
      {"init", Topic::kInit, true, "proc-mount", probe_init},
      {"directory-renames", Topic::kInit, false, "init", probe_directory_renames},
  };
}

}  // namespace deltabox::doctor

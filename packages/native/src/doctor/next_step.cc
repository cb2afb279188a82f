#include "doctor/next_step.h"

#include <cerrno>

namespace deltabox::doctor {

namespace {

constexpr const char* kKernelFloor = "DeltaBox needs Linux 6.13 or later";
constexpr const char* kGoodFileSystems = "ext4, XFS, btrfs or tmpfs";

// How a kernel says that it does not know a call, an option or a request.
bool means_unknown(const Error& error) {
  switch (error.os_errno) {
    case ENOSYS:
    case EINVAL:
    case ENOTTY:
    case EOPNOTSUPP:
    case ENODEV:
      return true;
    default:
      return error.code == Code::kUnsupportedKernel;
  }
}

std::string docker_line(const Context& context) {
  return "`docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt "
         "systempaths=unconfined -v deltabox:" +
         context.state_dir + " …`";
}

std::string container_advice(const Context& context) {
  std::string text =
      "In a container, start it with " + docker_line(context) +
      " (instead of `unconfined`, seccomp may name a profile that allows clone3, unshare, the mount calls, "
      "ptrace, kcmp, pidfd_getfd and userfaultfd)";
  if (context.id_map.ranged) text += ", and with `--user` for an ordinary user or with `--cap-add SYS_ADMIN`";
  return text + ".";
}

std::string apparmor_advice(const Context& context) {
  return "On Ubuntu 23.10 and later (apparmor_restrict_unprivileged_userns), give the engine an AppArmor profile: "
         "write "
         "`abi <abi/4.0>, profile deltabox " +
         context.engine_path +
         " flags=(unconfined) { userns, }` to /etc/apparmor.d/deltabox and run `apparmor_parser -r` on it.";
}

std::string namespaces_advice(const Error& error, const Context& context) {
  if (error.os_errno == ENOSPC || error.os_errno == EUSERS) {
    return "Raise this machine's limits on namespaces: `sysctl user.max_user_namespaces user.max_mnt_namespaces "
           "user.max_pid_namespaces user.max_net_namespaces` show them, and one is 0 or used up.";
  }
  if (means_unknown(error)) {
    return std::string(kKernelFloor) +
           " with user, pid, ipc, uts, net and time namespaces built in; clone3 also reads "
           "as missing in a container with a default seccomp profile. " +
           container_advice(context);
  }
  if (context.id_map.ranged) {
    return "Run DeltaBox with all of root's privileges, or as an ordinary user. " + container_advice(context);
  }
  return apparmor_advice(context) + " " + container_advice(context) +
         " Elsewhere, an administrator may have switched unprivileged user namespaces off (`sysctl "
         "kernel.unprivileged_userns_clone=1` or the distribution's equivalent switches them on).";
}

std::string overlay_advice(const Error& error, const Context& context) {
  if (error.code == Code::kUnsupportedKernel) {
    return std::string(kKernelFloor) + ", where overlayfs takes its layers by descriptor.";
  }
  if (error.os_errno == ENODEV) return "Load overlayfs on this machine: `modprobe overlay`.";
  if (error.os_errno == EPERM || error.os_errno == EACCES) return namespaces_advice(error, context);
  return std::string("Keep the state directory on ") + kGoodFileSystems +
         ", never on an overlay: set DELTABOX_STATE_DIR to such a place. In a container, mount a volume or tmpfs there "
         "(`-v "
         "deltabox:" +
         context.state_dir + "`).";
}

std::string tracing_advice(const Error& error, const Context& context) {
  if (means_unknown(error)) {
    return std::string(kKernelFloor) + "; a container's seccomp profile can also hide a call. " +
           container_advice(context);
  }
  if (error.os_errno == ENOENT) {
    return std::string(kKernelFloor) + ", built with CONFIG_PROC_CHILDREN as distributions do.";
  }
  return container_advice(context) +
         " Elsewhere, `sysctl kernel.yama.ptrace_scope` must be below 3, and no security module may confine the engine "
         "(" +
         context.engine_path + ").";
}

std::string init_advice(const Error& error, const Context& context) {
  if (error.os_errno == ENOENT || error.os_errno == EACCES || error.os_errno == ENOEXEC) {
    return "Install DeltaBox again, or make its binaries executable for everybody: `chmod 755 " + context.init_binary +
           "`, on a file system that is not mounted noexec.";
  }
  return tracing_advice(error, context);
}

std::string memory_advice(const Error& error, const Context& context) {
  if (means_unknown(error)) {
    return std::string(kKernelFloor) +
           ", built with CONFIG_USERFAULTFD and CONFIG_PTE_MARKER_UFFD_WP as distributions do; a container's seccomp "
           "profile "
           "can also hide the call. " +
           container_advice(context);
  }
  return tracing_advice(error, context);
}

}  // namespace

std::string next_step(const Probe& probe, const Error& error, const Context& context) {
  if (!error.next_step.empty()) return error.next_step;
  if (error.code == Code::kBusy) return "Run `deltabox doctor` again when the machine is less busy.";
  switch (probe.topic) {
    case Topic::kMachine:
      return std::string("Use Linux on x86-64. ") + kKernelFloor + ".";
    case Topic::kStateDir:
      return "Set DELTABOX_STATE_DIR to an existing directory that you own, on " + std::string(kGoodFileSystems) +
             " with free space.";
    case Topic::kNamespaces:
      return namespaces_advice(error, context);
    case Topic::kProcMount:
      return "The surrounding container masks parts of /proc, which forbids a new one inside. " +
             container_advice(context);
    case Topic::kOverlay:
      return overlay_advice(error, context);
    case Topic::kIdmap:
      if (!probe.required) return "Nothing: only sandboxes that root starts with a range of ids use idmapped mounts.";
      return std::string("Keep the state directory and workspaces on ") + kGoodFileSystems +
             ", or run DeltaBox as the ordinary user who owns the workspace.";
    case Topic::kInit:
      return init_advice(error, context);
    case Topic::kTracing:
      return tracing_advice(error, context);
    case Topic::kMemory:
      return (probe.required ? "" : "Optional: checkpoints compare all memory instead, which is slower. ") +
             memory_advice(error, context);
    case Topic::kReflink:
      return "Nothing is needed; on XFS or btrfs, checkpoints copy less of files that are being written.";
    case Topic::kLimits:
      return "Start the sandbox as root, or delegate the controller to this user; sandboxes without this limit need "
             "nothing.";
  }
  return {};
}

}  // namespace deltabox::doctor

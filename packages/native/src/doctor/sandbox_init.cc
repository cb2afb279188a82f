#include "doctor/sandbox_init.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "sandbox/init/init_abi.h"
#include "sys/files.h"
#include "sys/mounts.h"
#include "sys/sockets.h"

namespace deltabox::doctor {

namespace {

// In a grandchild that is in the pid namespace. Returns an errno.
int send_proc_mount(int socket_fd) {
  const auto mount = [&]() -> Result<void> {
    UniqueFd context = TRY(sys::fs_open("proc"));
    TRY(sys::fs_config_create(context.get()));
    UniqueFd made = TRY(sys::fs_mount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
    return sys::send_with_fds(socket_fd, "p", 1, {made.get()});
  };
  const Result<void> sent = mount();
  return sent.ok() ? 0 : sent.error().os_errno;
}

// A pid namespace entered by setns holds only the children that come after.
[[noreturn]] void enter_and_mount(int pid_namespace_fd, int socket_fd) {
  if (::setns(pid_namespace_fd, CLONE_NEWPID) != 0) ::_exit(errno);
  const pid_t inside = ::fork();
  if (inside < 0) ::_exit(errno);
  if (inside == 0) ::_exit(send_proc_mount(socket_fd));
  int status = 0;
  ::waitpid(inside, &status, 0);
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EIO);
}

// Without its control socket init would kill all that it sees, so it is only ever executed as pid 1 of a pid namespace.
// `failure_fd` closes with the exec, or gets an errno.
void become_init(int control_fd, int binary_fd, int failure_fd) {
  // Duplicates lie above the control socket's slot, and are close-on-exec.
  const int failure = ::fcntl(failure_fd, F_DUPFD_CLOEXEC, init_abi::kControlFd + 1);
  const int binary = ::fcntl(binary_fd, F_DUPFD_CLOEXEC, init_abi::kControlFd + 1);
  if (failure < 0 || binary < 0 || ::getpid() != 1) return;
  char name[] = "init";
  char* const arguments[] = {name, nullptr};
  char* const environment[] = {nullptr};
  // dup2 of a descriptor onto itself would leave it close-on-exec.
  if (control_fd == init_abi::kControlFd) {
    ::fcntl(control_fd, F_SETFD, 0);
  } else if (::dup2(control_fd, init_abi::kControlFd) < 0) {
    return;
  }
  ::syscall(SYS_execveat, binary, "", arguments, environment, AT_EMPTY_PATH);
  const int reason = errno;
  [[maybe_unused]] const ssize_t count = ::write(failure, &reason, sizeof reason);
}

}  // namespace

Result<UniqueFd> mount_proc_of(const Context& context, HostTid member) {
  auto [ours, theirs] = TRY(sys::make_socket_pair(SOCK_SEQPACKET));
  const std::string path = std::to_string(member.value) + "/ns/pid";
  UniqueFd pid_namespace = TRY(sys::open_at(context.proc.get(), path, O_RDONLY));
  const pid_t child = ::fork();
  if (child < 0) return os_error("fork", "proc mount");
  if (child == 0) enter_and_mount(pid_namespace.get(), theirs.get());
  theirs.reset();
  int status = 0;
  ::waitpid(child, &status, 0);
  const int reason = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
  if (reason != 0) return os_error_from(reason, "mount", "proc");
  char byte;
  sys::Received received = TRY(sys::receive_with_fds(ours.get(), &byte, 1));
  if (received.fds.size() != 1) return make_error(Code::kInternal, "the proc mount was not handed over");
  return std::move(received.fds[0]);
}

Result<SandboxInit> SandboxInit::start(const Context& context, int binary_fd) {
  TRY(make_private_mounts());
  auto [failure, failure_end] = TRY(sys::make_pipe(0));
  const auto exec_init = [binary_fd, failure_fd = failure_end.get()](int socket_fd) {
    become_init(socket_fd, binary_fd, failure_fd);
  };
  ProbeTask task = TRY(ProbeTask::start(context, ProbeTask::Ids::kIdentity, kSandboxNamespaces, exec_init));
  failure_end.reset();
  int reason = 0;
  if (::read(failure.get(), &reason, sizeof reason) > 0) return os_error_from(reason, "execveat", context.init_binary);
  const UniqueFd proc = TRY(mount_proc_of(context, task.tid()));
  TRY(sys::move_mount_to(proc.get(), AT_FDCWD, "/proc"));
  UniqueFd control = TRY(sys::duplicate(task.socket().get()));
  return SandboxInit(std::move(task), InitClient(std::move(control)));
}

}  // namespace deltabox::doctor

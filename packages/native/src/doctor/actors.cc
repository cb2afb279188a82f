#include "doctor/actors.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "doctor/report.h"
#include "sys/files.h"
#include "sys/mounts.h"
#include "sys/sockets.h"

namespace deltabox::doctor {

const std::uint64_t kSandboxNamespaces = CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWTIME;

namespace {

Result<void> become_root_inside(const IdMap& map) {
  if (map.ranged && ::setgroups(0, nullptr) != 0) return os_error("setgroups");
  if (::setresgid(0, 0, 0) != 0) return os_error("setresgid");
  if (::setresuid(0, 0, 0) != 0) return os_error("setresuid");
  // setresuid made the process non-dumpable, and its /proc files belong to an id that is not mapped here.
  if (::prctl(PR_SET_DUMPABLE, 1) != 0) return os_error("prctl", "PR_SET_DUMPABLE");
  return {};
}

// As the engine does it: one id is mapped by the process itself, a range only by the host's root.
Result<void> enter_user_namespace(const Context& context, int host_fd) {
  if (::unshare(CLONE_NEWUSER) != 0) return os_error("unshare", "CLONE_NEWUSER");
  if (context.id_map.ranged) {
    char byte = 'u';
    TRY(sys::send_with_fds(host_fd, &byte, 1));
    const sys::Received answer = TRY(sys::receive_with_fds(host_fd, &byte, 1));
    // The host side reports its own failure, which comes first.
    if (answer.size_bytes != 1) return make_error(Code::kInternal, "the user namespace got no ids");
  } else {
    TRY(write_id_maps(context.proc.get(), ::getpid(), context.id_map));
  }
  return become_root_inside(context.id_map);
}

Result<void> serve_id_maps(const Context& context, int socket_fd, pid_t child) {
  char byte = 0;
  const sys::Received request = TRY(sys::receive_with_fds(socket_fd, &byte, 1));
  if (request.size_bytes != 1) return {};  // it failed before, and says so in its report
  TRY(write_id_maps(context.proc.get(), child, context.id_map));
  return sys::send_with_fds(socket_fd, "m", 1);
}

}  // namespace

Result<std::string> as_engine(const Context& context, const std::function<Result<std::string>()>& body) {
  auto [report, report_end] = TRY(sys::make_pipe(0));
  auto [host, engine] = TRY(sys::make_socket_pair(SOCK_SEQPACKET));
  const pid_t child = ::fork();
  if (child < 0) return os_error("fork");
  if (child == 0) {
    host.reset();
    const Result<void> entered = enter_user_namespace(context, engine.get());
    send_report(report_end.get(), entered.ok() ? body() : Result<std::string>(entered.error()));
    ::_exit(0);
  }
  engine.reset();
  report_end.reset();
  if (context.id_map.ranged) TRY(serve_id_maps(context, host.get(), child));
  // Bounded by the probe's own time: whoever runs it kills the whole process group.
  Result<std::string> result = receive_report(report.get());
  ::waitpid(child, nullptr, 0);
  return result;
}

Result<void> make_private_mounts() {
  if (::unshare(CLONE_NEWNS) != 0) return os_error("unshare", "CLONE_NEWNS");
  return sys::make_all_private();
}

Result<UniqueFd> mount_tmpfs_on_root() {
  UniqueFd context = TRY(sys::fs_open("tmpfs"));
  TRY(sys::fs_config_string(context.get(), "mode", "0755"));
  TRY(sys::fs_config_string(context.get(), "size", "8m"));
  TRY(sys::fs_config_create(context.get()));
  UniqueFd root = TRY(sys::fs_mount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  TRY(sys::move_mount_to(root.get(), AT_FDCWD, "/"));
  return root;
}

Result<ProbeTask> ProbeTask::start(const Context& context, Ids ids, std::uint64_t namespaces,
                                   const std::function<void(int)>& body) {
  auto [ours, theirs] = TRY(sys::make_socket_pair(SOCK_SEQPACKET));
  clone_args arguments{};
  arguments.flags = CLONE_NEWUSER | namespaces;
  arguments.exit_signal = SIGCHLD;
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return os_error("clone3", "CLONE_NEWUSER and others");
  if (pid == 0) {
    ours.reset();
    wait_for_prober(theirs.get());  // ids are mapped
    body(theirs.get());
    ::_exit(0);
  }
  ProbeTask task(HostTid{static_cast<pid_t>(pid)}, std::move(ours));
  if (ids == Ids::kHost) {
    TRY(write_id_maps(context.proc.get(), task.tid().value, context.id_map));
  } else {
    TRY(write_identity_maps(context.proc.get(), task.tid().value, context.id_map));
  }
  TRY(task.say(0));
  return task;
}

ProbeTask::ProbeTask(HostTid tid, UniqueFd socket) : tid_(tid), socket_(std::move(socket)) {}

ProbeTask::ProbeTask(ProbeTask&& other) noexcept
    : tid_(std::exchange(other.tid_, HostTid{})), socket_(std::move(other.socket_)) {}

ProbeTask::~ProbeTask() {
  if (tid_.value <= 0) return;
  ::kill(tid_.value, SIGKILL);
  ::waitpid(tid_.value, nullptr, __WALL);
}

Result<std::int64_t> ProbeTask::hear(const char* operation) {
  std::int64_t value = 0;
  const sys::Received received = TRY(sys::receive_with_fds(socket_.get(), &value, sizeof value));
  if (received.size_bytes != sizeof value) {
    return make_error(Code::kInternal, std::string("the probed task died: ") + operation);
  }
  if (value < 0) return os_error_from(static_cast<int>(-value), operation);
  return value;
}

Result<void> ProbeTask::say(std::int64_t value) { return sys::send_with_fds(socket_.get(), &value, sizeof value); }

Result<std::int64_t> ProbeTask::ask(const char* operation) {
  TRY(say(0));
  return hear(operation);
}

void say_to_prober(int socket_fd, std::int64_t value) {
  if (!sys::send_with_fds(socket_fd, &value, sizeof value).ok()) ::_exit(1);
}

void wait_for_prober(int socket_fd) {
  std::int64_t value = 0;
  const Result<sys::Received> received = sys::receive_with_fds(socket_fd, &value, sizeof value);
  if (!received.ok() || received.value().size_bytes != sizeof value) ::_exit(1);
}

}  // namespace deltabox::doctor

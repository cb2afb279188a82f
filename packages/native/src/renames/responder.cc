#include "renames/responder.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <utility>

#include "sys/files.h"

namespace deltabox::renames {

namespace {

constexpr std::size_t kOwnSlot = 0;

// Cheap and without consequence: a call that is taken for the other kind is only answered by the other way.
bool may_be_directory(int proc_fd, HostTid tid, const seccomp_data& call) {
  const Result<CallSide> side = read_old_side(tid, call);
  if (!side.ok()) return false;
  const std::string path = path_in_proc(tid, side.value());
  if (path.size() >= PATH_MAX) return true;
  struct stat info {};
  return ::fstatat(proc_fd, path.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
}

struct Bases {
  UniqueFd from;
  UniqueFd to;
};

struct Parents {
  UniqueFd from;
  UniqueFd to;
};

// With the task's rights. Magic links lead elsewhere for this process than for the task.
Result<UniqueFd> open_parent(int base_fd, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_NO_MAGICLINKS;
  const long fd = ::syscall(SYS_openat2, base_fd, path.c_str(), &how, sizeof how);
  if (fd < 0) return os_error("openat2", path);
  return UniqueFd(static_cast<int>(fd));
}

std::string without_slash(std::string name) {
  if (name.ends_with('/')) name.pop_back();
  return name;
}

}  // namespace

Result<Responder> Responder::create(int listener_fd, int proc_fd, Gate& gate) {
  Responder responder(listener_fd, proc_fd, gate);
  sigset_t child_ended;
  sigemptyset(&child_ended);
  sigaddset(&child_ended, SIGCHLD);
  if (::sigprocmask(SIG_BLOCK, &child_ended, nullptr) != 0) return os_error("sigprocmask");
  responder.child_signals_ = UniqueFd(::signalfd(-1, &child_ended, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!responder.child_signals_) return os_error("signalfd");
  responder.own_ = TRY(identity_of(proc_fd, HostTid{::getpid()}));
  ::umask(0);
  (void)sys::set_synchronous_wake_up(listener_fd);  // before 6.6 it only takes a little longer
  return responder;
}

Result<void> Responder::run() {
  for (;;) {
    pollfd waiting[2] = {{listener_fd_, POLLIN, 0}, {child_signals_.get(), POLLIN, 0}};
    if (::poll(waiting, 2, -1) < 0 && errno != EINTR) return os_error("poll");
    if (waiting[1].revents != 0) reap();
    if ((waiting[0].revents & POLLIN) != 0) {
      serve_call();
    } else if (waiting[0].revents != 0) {
      return {};
    }
  }
}

void Responder::serve_call() {
  gate_->enter(kOwnSlot);
  const Result<sys::Notification> received = sys::receive_notification(listener_fd_);
  if (received.ok()) {
    const sys::Notification& notification = received.value();
    gate_->set_id(kOwnSlot, notification.id);
    if (may_be_directory(proc_fd_, notification.tid, notification.call)) {
      serve_directory(notification);
    } else {
      (void)sys::pass_notification(listener_fd_, notification.id);
    }
  }
  gate_->leave(kOwnSlot);
}

void Responder::serve_directory(const sys::Notification& notification) {
  const auto pass = [&] { (void)sys::pass_notification(listener_fd_, notification.id); };
  const Result<RenameCall> call = read_call(notification.tid, notification.call);
  const Result<Identity> identity = identity_of(proc_fd_, notification.tid);
  if (!call.ok() || !identity.ok()) return pass();
  const Result<UniqueFd> from_base = open_base(proc_fd_, notification.tid, call.value().from);
  const Result<UniqueFd> to_base = open_base(proc_fd_, notification.tid, call.value().to);
  const Result<SplitPath> from = split(call.value().from.path);
  const Result<SplitPath> to = split(call.value().to.path);
  if (!from_base.ok() || !to_base.ok() || !from.ok() || !to.ok()) return pass();
  // All of that was read by tid: now it is known that the tid was the task's all the time.
  if (!sys::is_notification_waiting(listener_fd_, notification.id)) return;

  UniqueFd from_parent;
  UniqueFd to_parent;
  int outcome = 0;
  {
    const Result<AssumedIdentity> assumed = AssumedIdentity::assume(identity.value(), own_);
    if (!assumed.ok()) return pass();
    Result<UniqueFd> opened = open_parent(from_base.value().get(), from.value().parent);
    if (!opened.ok()) return pass();
    from_parent = opened.release_value();
    opened = open_parent(to_base.value().get(), to.value().parent);
    if (!opened.ok()) return pass();
    to_parent = opened.release_value();
    if (::renameat2(from_parent.get(), from.value().name.c_str(), to_parent.get(), to.value().name.c_str(),
                    call.value().flags) != 0) {
      outcome = errno;
    }
  }
  // The kernel looks at everything else before overlayfs refuses: the task may do this, and it could be done.
  const DirectoryMove move{from_parent.get(), without_slash(from.value().name), to_parent.get(),
                           without_slash(to.value().name), call.value().flags};
  if (outcome == EXDEV && may_move(move)) return begin_move(notification, identity.value(), move);
  (void)sys::answer_notification(listener_fd_, notification.id, outcome);
}

void Responder::begin_move(const sys::Notification& notification, const Identity& identity, const DirectoryMove& move) {
  const std::size_t slot = free_slot();
  gate_->move(kOwnSlot, slot);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child > 0) {
    children_[slot] = child;
    return;
  }
  int outcome = ENOMEM;
  if (child == 0) {
    const Result<void> assumed = assume(identity, own_);
    // A change of ids clears it, so it comes after.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!assumed.ok() || ::getppid() != parent) ::_exit(1);
    const Result<void> moved = move_directory(move);
    outcome = moved.ok() ? 0 : moved.error().os_errno;
  }
  (void)sys::answer_notification(listener_fd_, notification.id, outcome);
  gate_->leave(slot);
  if (child == 0) ::_exit(0);
}

// Waits for a child when all slots are taken. Calls that come meanwhile wait, and can be frozen.
std::size_t Responder::free_slot() {
  for (;;) {
    for (std::size_t slot = kOwnSlot + 1; slot < Gate::kSlots; ++slot) {
      if (children_[slot] == 0) return slot;
    }
    pollfd waiting{child_signals_.get(), POLLIN, 0};
    (void)::poll(&waiting, 1, -1);
    reap();
  }
}

void Responder::reap() {
  signalfd_siginfo ignored{};
  while (::read(child_signals_.get(), &ignored, sizeof ignored) > 0) {
  }
  for (;;) {
    const pid_t ended = ::waitpid(-1, nullptr, WNOHANG);
    if (ended <= 0) return;
    for (std::size_t slot = kOwnSlot + 1; slot < Gate::kSlots; ++slot) {
      if (children_[slot] != ended) continue;
      children_[slot] = 0;
      // It died before it could answer.
      if (!gate_->is_used(slot)) continue;
      (void)sys::answer_notification(listener_fd_, gate_->id(slot), EIO);
      gate_->leave(slot);
    }
  }
}

}  // namespace deltabox::renames

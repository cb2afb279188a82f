#include "renames/service.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>

#include "renames/responder.h"
#include "sys/files.h"
#include "sys/processes.h"

namespace deltabox::renames {

namespace {

constexpr std::uint64_t kPauseTimeoutMs = 2'000;  // some thousand files; the engine serves nobody meanwhile

// Everything of the engine but standard error and the two that are needed.
void close_others(int first, int second) {
  const auto [low, high] = std::minmax(first, second);
  const std::array<std::pair<unsigned, unsigned>, 3> gaps{{{3, low - 1}, {low + 1, high - 1}, {high + 1, ~0u}}};
  for (const auto& [from, to] : gaps) {
    if (from <= to) (void)::syscall(SYS_close_range, from, to, 0);
  }
}

// Leaves the engine's user namespace for that of the tasks: no right over mounts, layers or the engine is left.
Result<void> become_responder(const ServiceContext& context, pid_t engine) {
  ::prctl(PR_SET_NAME, "deltabox-rename");
  (void)::setpriority(PRIO_PROCESS, 0, 0);  // the engine's own may be higher
  const std::string path = std::to_string(context.init.value) + "/ns/user";
  const UniqueFd user_namespace = TRY(sys::open_at(context.proc_fd, path, O_RDONLY));
  if (::setns(context.m1_fd, CLONE_NEWNS) != 0) return os_error("setns", "M1");
  if (::setns(user_namespace.get(), CLONE_NEWUSER) != 0) return os_error("setns", "U2");
  // Entering a user namespace clears it, so it comes after.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return os_error("prctl", "PR_SET_PDEATHSIG");
  if (::getppid() != engine) return os_error_from(ESRCH, "renames", "the engine is gone");
  return {};
}

Result<void> respond(int listener_fd, const ServiceContext& context, pid_t engine, Gate& gate) {
  TRY(become_responder(context, engine));
  close_others(listener_fd, context.proc_fd);
  Responder responder = TRY(Responder::create(listener_fd, context.proc_fd, gate));
  return responder.run();
}

}  // namespace

Pause::Pause(Pause&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}

Pause::~Pause() { end(); }

void Pause::end() {
  if (gate_ != nullptr) std::exchange(gate_, nullptr)->open();
}

Result<Service> Service::start(UniqueFd listener, const ServiceContext& context) {
  Service service;
  if (!listener) return service;
  service.listener_ = std::move(listener);
  service.context_ = context;
  service.gate_ = TRY(Gate::create());
  TRY(service.spawn());
  return service;
}

Service::Service(Service&& other) noexcept { *this = std::move(other); }

Service& Service::operator=(Service&& other) noexcept {
  std::swap(listener_, other.listener_);
  std::swap(context_, other.context_);
  std::swap(gate_, other.gate_);
  std::swap(process_, other.process_);
  std::swap(pidfd_, other.pidfd_);
  return *this;
}

Service::~Service() { end(); }

void Service::end() {
  if (process_ == 0) return;
  ::kill(process_, SIGKILL);
  ::waitpid(process_, nullptr, 0);
  process_ = 0;
  pidfd_.reset();
}

Result<void> Service::spawn() {
  const pid_t engine = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return os_error("fork", "renames");
  if (child == 0) {
    const Result<void> ended = respond(listener_.get(), context_, engine, *gate_);
    if (!ended.ok()) std::fprintf(stderr, "renames: %s\n", ended.error().describe().c_str());
    ::_exit(ended.ok() ? 0 : 1);
  }
  process_ = child;
  pidfd_ = TRY(sys::pidfd_open(HostTid{child}));
  return {};
}

Result<Pause> Service::pause() {
  if (!available()) return Pause(nullptr);
  if (gate_->close(kPauseTimeoutMs)) return Pause(&*gate_);
  return make_error(Code::kBusy, "a directory is being renamed inside, which copies its files",
                    "Wait until the rename has ended, then try again.");
}

Result<void> Service::revive() {
  end();
  for (const std::uint64_t id : gate_->abandoned()) (void)sys::answer_notification(listener_.get(), id, EIO);
  pollfd listener{listener_.get(), POLLIN, 0};
  // Without tasks nobody asks any more.
  if (::poll(&listener, 1, 0) > 0 && (listener.revents & POLLHUP) != 0) return {};
  return spawn();
}

}  // namespace deltabox::renames

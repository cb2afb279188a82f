#include "doctor/probe.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "base/clock.h"
#include "doctor/report.h"
#include "sys/files.h"

namespace deltabox::doctor {

namespace {

// Each probe takes milliseconds; about twenty of them at this bound still end before a client that waits a minute.
constexpr std::uint64_t kProbeTimeoutMs = 2'000;
constexpr std::uint64_t kReapTimeoutMs = 500;  // a killed task stays only while it hangs in a file system
constexpr int kPollSliceMs = 20;

std::uint64_t monotonic_ms() { return monotonic_ns() / 1'000'000; }

bool has_ended(pid_t pid) {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == pid;
}

// The probe's tasks hold the report's pipe as well, so its end says nothing about the child: that is asked separately.
Result<std::string> await_report(int report_fd, pid_t child) {
  const std::uint64_t deadline_ms = monotonic_ms() + kProbeTimeoutMs;
  while (monotonic_ms() < deadline_ms) {
    const bool ended = has_ended(child);  // before the poll: what an ended child said is in the pipe
    pollfd waiting{report_fd, POLLIN, 0};
    if (::poll(&waiting, 1, ended ? 0 : kPollSliceMs) > 0) return receive_report(report_fd);
    if (ended) return make_error(Code::kInternal, "the probe was killed while it ran");
  }
  return make_error(Code::kBusy, "did not end within " + std::to_string(kProbeTimeoutMs) + " ms");
}

// All of a probe's tasks are in the child's process group; those whose parent died have become our children.
void end_group(pid_t group) {
  ::kill(-group, SIGKILL);
  const std::uint64_t deadline_ms = monotonic_ms() + kReapTimeoutMs;
  while (monotonic_ms() < deadline_ms) {
    const pid_t reaped = ::waitpid(-group, nullptr, WNOHANG | __WALL);
    if (reaped < 0 && errno == ECHILD) return;
    if (reaped == 0) ::poll(nullptr, 0, 1);
  }
}

}  // namespace

Result<std::string> run_bounded(const Probe& probe, const Context& context) {
  auto [report, child_end] = TRY(sys::make_pipe(0));
  const pid_t child = ::fork();
  if (child < 0) return os_error("fork", probe.name);
  if (child == 0) {
    ::setpgid(0, 0);
    report.reset();
    send_report(child_end.get(), probe.run(context));
    ::_exit(0);
  }
  ::setpgid(child, child);  // both sides do it, so that the group exists whoever runs first
  child_end.reset();
  Result<std::string> result = await_report(report.get(), child);
  end_group(child);
  return result;
}

}  // namespace deltabox::doctor

#include "reconcile/job_control.h"

#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "parasite/session.h"
#include "tracee/ptrace.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr int kMaxStops = 64;
constexpr std::uint64_t kKernelSigsetBytes = 8;

bool is_stopped(const FrozenProcess& frozen) { return frozen.threads.front().group_stopped; }

// Blocks what may be pending, so that a thread that goes on meets nothing but SIGSTOP.
class AllBlocked {
 public:
  static Result<AllBlocked> begin(const FrozenProcess& frozen) {
    AllBlocked blocked;
    for (const FrozenThread& thread : frozen.threads) {
      blocked.masks_.emplace_back(thread.tid, TRY(ptrace::signal_mask(thread.tid)));
      TRY(ptrace::set_signal_mask(thread.tid, ~ptrace::SignalMask{0}));
    }
    return blocked;
  }
  Result<void> end() {
    for (const auto& [tid, mask] : masks_) TRY(ptrace::set_signal_mask(tid, mask));
    return {};
  }

 private:
  std::vector<std::pair<HostTid, ptrace::SignalMask>> masks_;
};

// The leader takes the signal, which stops the group; each other thread joins in when it goes on.
Result<void> stop_thread(FrozenThread& thread) {
  int signal = 0;
  for (int stops = 0; stops < kMaxStops; ++stops) {
    TRY(ptrace::resume(thread.tid, signal));
    const ptrace::Stop stop = TRY(ptrace::wait_for_stop(thread.tid));
    if (stop.kind == ptrace::Stop::Kind::kGroupStop) {
      thread.group_stopped = true;
      return {};
    }
    if (stop.kind == ptrace::Stop::Kind::kGone) return os_error_from(ESRCH, "waitpid", "a thread to be stopped");
    signal = stop.kind == ptrace::Stop::Kind::kSignal ? stop.signal : 0;
  }
  return make_error(Code::kInternal, "a thread does not stop");
}

Result<void> stop(FrozenProcess& frozen) {
  AllBlocked blocked = TRY(AllBlocked::begin(frozen));
  if (::kill(frozen.pid.value, SIGSTOP) != 0) return os_error("kill", "SIGSTOP");
  for (FrozenThread& thread : frozen.threads) TRY(stop_thread(thread));
  return blocked.end();
}

bool has_pending_sigchld(const ProcessImage& process) {
  const auto is_sigchld = [](const siginfo_t& info) { return info.si_signo == SIGCHLD; };
  return std::any_of(process.pending.begin(), process.pending.end(), is_sigchld) ||
         std::any_of(process.threads.begin(), process.threads.end(), [&](const ThreadImage& thread) {
           return std::any_of(thread.pending.begin(), thread.pending.end(), is_sigchld);
         });
}

// It had taken note of its stopped children before the checkpoint, unless the signal for it was still on its way.
Result<void> take_reports(const LiveProcess& parent, const std::vector<InsidePid>& children) {
  struct {
    std::uint64_t set = std::uint64_t{1} << (SIGCHLD - 1);
    timespec now{};
  } area;
  parasite::Session session = TRY(parasite::Session::begin(parent.pid));
  session.keep_rseq_cs_from_memory();
  TRY(session.write_buffer(parent.site, 0, &area, sizeof area));
  const std::uint64_t buffer = parent.site.mapping.value + parasite::kBufferOffset;
  for (const InsidePid child : children) {
    Call calls[] = {
        make_call(SYS_wait4, static_cast<std::uint64_t>(child.value), 0, WUNTRACED | WCONTINUED | WNOHANG | __WALL, 0),
        make_call(SYS_rt_sigtimedwait, buffer, 0, buffer + 8, kKernelSigsetBytes)};
    TRY(session.run(parent.site, calls));
  }
  return session.finish();
}

}  // namespace

FrozenProcess* JobControl::find_frozen(const ProcessImage& wanted) {
  const LiveProcess* live = registry_.find(wanted.incarnation);
  if (live == nullptr) return nullptr;
  for (FrozenProcess& frozen : freeze_.processes()) {
    if (frozen.pid == live->pid) return &frozen;
  }
  return nullptr;
}

void JobControl::continue_running() {
  for (const ProcessImage& wanted : target_.processes) {
    FrozenProcess* frozen = find_frozen(wanted);
    if (frozen == nullptr || wanted.group_stopped || !is_stopped(*frozen)) continue;
    ::kill(frozen->pid.value, SIGCONT);
    for (FrozenThread& thread : frozen->threads) thread.group_stopped = false;
    changed_[wanted.parent].push_back(wanted.pid);
  }
}

Result<void> JobControl::stop_stopped() {
  for (const ProcessImage& wanted : target_.processes) {
    FrozenProcess* frozen = find_frozen(wanted);
    if (frozen == nullptr || !wanted.group_stopped || is_stopped(*frozen)) continue;
    TRY(stop(*frozen));
    changed_[wanted.parent].push_back(wanted.pid);
  }
  for (const auto& [pid, children] : changed_) {
    const ProcessImage* parent = target_.find_by_pid(pid);
    const LiveProcess* live = parent != nullptr ? registry_.find(parent->incarnation) : nullptr;
    if (live != nullptr && !has_pending_sigchld(*parent)) TRY(take_reports(*live, children));
  }
  return {};
}

}  // namespace deltabox

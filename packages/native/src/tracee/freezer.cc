#include "tracee/freezer.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <string>
#include <utility>

#include "base/clock.h"
#include "tracee/proc_files.h"
#include "tracee/ptrace.h"

namespace deltabox {

namespace {

// Parents in vfork(2) need their child's millisecond; a disk under load needs more.
constexpr std::uint64_t kAttemptTimeoutsUs[] = {10'000, 50'000, 50'000, 50'000, 50'000, 50'000};
// Between them the sandbox runs on. A child that its parent waits for in vfork(2) needs a processor first.
constexpr useconds_t kBackoffsUs[] = {3'000, 10'000, 30'000, 100'000, 300'000, 0};
// What lacks nothing but a processor is waited for beyond an attempt's time: it stops as soon as it gets one, and other
// attempts would have to wait for the same.
constexpr std::uint64_t kMostForProcessorNs = 2'000'000'000;
constexpr useconds_t kEndPollUs = 100;
constexpr int kMaxLooks = 64;  // each finds at least one newborn task that was born before its parent stopped
constexpr std::size_t kMaxProcesses = 65'536;

// A thread that was frozen and not captured, in an attempt that failed for another's sake, must not notice.
void settle(HostTid tid, TimedCalls& timed_calls) {
  const Result<ptrace::Registers> registers = ptrace::registers(tid);
  if (!registers.ok()) return;
  (void)timed_calls.observe(tid, registers.value());
  const ptrace::Registers settled = registers_to_go_on(registers.value());
  if (settled.rax != registers.value().rax) (void)ptrace::set_registers(tid, settled);
}

// Any other failure (for want of descriptors, say) must not pass for the end of a task that runs.
bool has_ended(const Error& error) { return error.os_errno == ENOENT || error.os_errno == ESRCH; }

}  // namespace

Freeze::Freeze(Freeze&& other) noexcept
    : freezer_(other.freezer_),
      processes_(std::exchange(other.processes_, {})),
      zombies_(std::exchange(other.zombies_, {})),
      attempts_(other.attempts_),
      started_ns_(other.started_ns_) {}

Freeze::~Freeze() { thaw(); }

TimedCalls& Freeze::timed_calls() { return freezer_->timed_calls_; }

void Freeze::thaw() {
  for (FrozenProcess& process : processes_) {
    for (FrozenThread& thread : process.threads) {
      if (!thread.stopped) {
        freezer_->late_.push_back(thread.tid);
        continue;
      }
      if (!thread.settled) settle(thread.tid, freezer_->timed_calls_);
      int signal = 0;
      if (thread.held_signal) {
        signal = thread.held_signal->si_signo;
        (void)ptrace::set_signal_info(thread.tid, *thread.held_signal);
      }
      // One that was killed meanwhile can't be detached; its end is told to its tracer first, so it is collected later.
      if (!ptrace::detach(thread.tid, signal).ok()) freezer_->late_.push_back(thread.tid);
    }
  }
  processes_.clear();
}

bool Freeze::holds(HostTid tid) const {
  for (const FrozenProcess& process : processes_) {
    for (const FrozenThread& thread : process.threads) {
      if (thread.tid == tid) return true;
    }
  }
  return false;
}

void Freeze::drop_held_signals() {
  for (FrozenProcess& process : processes_) {
    for (FrozenThread& thread : process.threads) thread.held_signal.reset();
  }
}

void Freeze::end_all() {
  for (FrozenProcess& process : processes_) end_frozen_process(process);
  processes_.clear();
}

void end_frozen_process(const FrozenProcess& process) {
  ::kill(process.pid.value, SIGKILL);
  // The leader last: waitpid tells of its end only when the group is empty. A tracer that does not wait keeps its dead
  // tracees, and with them their pid namespace.
  for (auto thread = process.threads.rbegin(); thread != process.threads.rend(); ++thread) {
    for (;;) {
      const Result<ptrace::Stop> stop = ptrace::wait_for_stop(thread->tid);
      if (!stop.ok() || stop.value().kind == ptrace::Stop::Kind::kGone) break;
    }
  }
}

FrozenProcess& Freeze::adopt_process(HostTid pid, HostTid parent) {
  FrozenThread leader;
  leader.tid = pid;
  leader.stopped = true;
  processes_.push_back({pid, parent, {leader}});
  return processes_.back();
}

void Freeze::forget_process(HostTid pid) {
  std::erase_if(processes_, [&](const FrozenProcess& process) { return process.pid == pid; });
}

void Freeze::forget_thread(HostTid pid, HostTid tid) {
  for (FrozenProcess& process : processes_) {
    if (process.pid != pid) continue;
    std::erase_if(process.threads, [&](const FrozenThread& thread) { return thread.tid == tid; });
  }
}

Result<Freeze> Freezer::freeze_all() {
  Freeze freeze(*this);
  Error last;
  for (const std::uint64_t timeout_us : kAttemptTimeoutsUs) {
    const useconds_t backoff_us = kBackoffsUs[freeze.attempts_++];
    Result<void> attempted = freeze.attempt(timeout_us);
    if (attempted.ok()) {
      timed_calls_.forget_unless([&](HostTid tid) { return freeze.holds(tid); });
      known_.clear();
      std::vector<HostTid> present{init_};
      for (const FrozenProcess& process : freeze.processes_) {
        known_.emplace_back(process.pid, process.parent);
        present.push_back(process.pid);
      }
      tasks_.keep_only(present);
      return freeze;
    }
    freeze.thaw();
    known_.clear();
    tasks_.keep_only({init_});
    if (attempted.error().code != Code::kBusy) return attempted.release_error();
    last = attempted.release_error();
    ::usleep(backoff_us);
  }
  last.next_step = "A process waits in the kernel (for a slow disk, for example) or is just ending; try again.";
  return last;
}

void Freezer::release_late_threads() {
  const auto release = [this](HostTid tid) {
    int status = 0;
    const pid_t stopped = ::waitpid(tid.value, &status, __WALL | WNOHANG);
    if (stopped == 0) return false;
    if (stopped == tid.value && WIFSTOPPED(status)) {
      const bool is_signal = (status >> 16) == 0;
      settle(tid, timed_calls_);
      (void)ptrace::detach(tid, is_signal ? WSTOPSIG(status) : 0);
    }
    return true;
  };
  // A leader's end is told only once its threads' ends were collected.
  while (std::erase_if(late_, release) > 0 && !late_.empty()) {
  }
}

Result<void> Freeze::attempt(std::uint64_t timeout_us) {
  started_ns_ = monotonic_ns();
  const ptrace::Deadline deadline(timeout_us);
  freezer_->tasks_.forget_ended();
  // What failed so may succeed step by step: a known process may wait for an unknown one that waits for a known one.
  if (attempts_ == 1) TRY(freeze_known());
  for (int look = 0; look < kMaxLooks; ++look) {
    const bool found = TRY(freeze_newborn());
    if (!found) return {};
  }
  return make_error(Code::kBusy, "tasks are born faster than they can be stopped");
}

Result<ptrace::Stop> Freeze::wait_for_stop(HostTid pid, HostTid tid) {
  for (;;) {
    Result<ptrace::Stop> stop = ptrace::wait_for_stop(tid);
    if (stop.ok() || stop.error().code != Code::kBusy) return stop;
    // In time again and again from here on: the deadline repeats.
    if (monotonic_ns() - started_ns_ > kMostForProcessorNs) return stop;
    if (task_state(freezer_->proc_fd_, pid, tid) != 'R') return stop;
  }
}

Result<void> Freeze::stop_thread(HostTid pid, FrozenThread& thread) {
  for (;;) {
    const ptrace::Stop stop = TRY(wait_for_stop(pid, thread.tid));
    switch (stop.kind) {
      case ptrace::Stop::Kind::kGone:
        return os_error_from(ESRCH, "waitpid", "tid " + std::to_string(thread.tid.value));
      case ptrace::Stop::Kind::kInterrupted:
        break;
      case ptrace::Stop::Kind::kGroupStop:
        thread.group_stopped = true;
        break;
      case ptrace::Stop::Kind::kSignal:
        thread.held_signal = TRY(ptrace::signal_info(thread.tid));
        break;
      default: {
        // A seccomp stop: the thread asked for a call that only the engine may make, in the moment it was seized. Going
        // on would let it pass, so it is skipped as if no tracer were there.
        ptrace::Registers registers = TRY(ptrace::registers(thread.tid));
        registers.orig_rax = static_cast<unsigned long long>(-1);
        registers.rax = static_cast<unsigned long long>(-ENOSYS);
        TRY(ptrace::set_registers(thread.tid, registers));
        TRY(ptrace::resume(thread.tid));
        continue;
      }
    }
    thread.stopped = true;
    return {};
  }
}

// True when the thread has ended, or does so while it is waited for. One that is about to end and had switched
// PR_SET_DUMPABLE off can't be traced by ordinary users from when it has no memory any more until its descriptors are
// closed, and seems to run meanwhile.
bool Freeze::ends(HostTid pid, HostTid tid) {
  while (task_is_exiting(freezer_->proc_fd_, pid, tid)) {
    const char state = task_state(freezer_->proc_fd_, pid, tid);
    if (state == 'X' || state == 'Z') return true;
    if (monotonic_ns() - started_ns_ > kMostForProcessorNs) return false;
    ::usleep(kEndPollUs);
  }
  return false;
}

// False when the thread ended by itself.
Result<bool> Freeze::attach(HostTid pid, HostTid tid) {
  const auto late = std::find(freezer_->late_.begin(), freezer_->late_.end(), tid);
  if (late != freezer_->late_.end()) {
    freezer_->late_.erase(late);
    return true;
  }
  Result<void> seized = ptrace::seize(tid);
  if (seized.ok()) {
    TRY(ptrace::interrupt(tid));
    return true;
  }
  if (ends(pid, tid)) return false;
  const Result<TaskStatus> status = task_status(freezer_->proc_fd_, pid);
  if (status.ok() && status.value().tracer.value != 0) {
    const int inside = status.value().inside.value;
    Error error = make_error(Code::kUnsupported,
                             "process " + std::to_string(inside) + " is traced by a debugger inside the sandbox",
                             "End the debugger or strace, then try again.");
    error.details.push_back({inside, "traced", "traced by another process inside"});
    return error;
  }
  return seized.release_error();
}

// Seizes and interrupts what is not frozen yet; all are told to stop before any is waited for, so that they stop side
// by side.
Result<void> Freeze::attach_new_threads(FrozenProcess& process, const std::vector<HostTid>& threads) {
  const std::size_t known = process.threads.size();
  for (const HostTid tid : threads) {
    const auto begin = process.threads.begin();
    const bool is_known = std::any_of(begin, begin + static_cast<long>(known),
                                      [&](const FrozenThread& thread) { return thread.tid == tid; });
    if (is_known || !TRY(attach(process.pid, tid))) continue;
    FrozenThread thread;
    thread.tid = tid;
    process.threads.push_back(thread);
  }
  return {};
}

// True when there were any to wait for. The leader last: where the process was killed, its end is told only once those
// of its threads were collected.
Result<bool> Freeze::wait_for_threads(FrozenProcess& process) {
  bool found_new = false;
  for (std::size_t index = process.threads.size(); index-- > 0;) {
    if (process.threads[index].stopped) continue;
    found_new = true;
    Result<void> stopped = stop_thread(process.pid, process.threads[index]);
    if (stopped.ok()) continue;
    if (stopped.error().code != Code::kTraceeGone) return stopped.release_error();
    process.threads.erase(process.threads.begin() + static_cast<long>(index));
  }
  return found_new;
}

Result<void> Freeze::freeze_new_threads(FrozenProcess& process, const std::vector<HostTid>& threads, bool& found_new) {
  TRY(attach_new_threads(process, threads));
  if (TRY(wait_for_threads(process))) found_new = true;
  return {};
}

// The processes of the last freeze, at once. None of them can be a child that its parent waits for in vfork(2): the
// last freeze would not have stopped that parent.
Result<void> Freeze::freeze_known() {
  for (const auto& [pid, parent] : freezer_->known_) {
    const Result<std::vector<HostTid>> threads = freezer_->tasks_.threads_of_known(pid);
    if (!threads.ok()) continue;  // it has ended
    processes_.push_back(FrozenProcess{pid, parent, {}});
    TRY(attach_new_threads(processes_.back(), threads.value()));
  }
  for (FrozenProcess& process : processes_) TRY(wait_for_threads(process));
  std::erase_if(processes_, [](const FrozenProcess& process) { return process.threads.empty(); });
  return {};
}

// False when a frozen process was not met: it was handed to another parent during the look.
bool Freeze::order_as_met(const std::vector<HostTid>& met) {
  auto next = processes_.begin();
  for (const HostTid pid : met) {
    if (next != processes_.end() && next->pid == pid) ++next;
  }
  if (next == processes_.end()) return true;
  const auto place = [&](const FrozenProcess& process) { return std::find(met.begin(), met.end(), process.pid); };
  processes_.sort([&](const FrozenProcess& a, const FrozenProcess& b) { return place(a) < place(b); });
  return std::all_of(processes_.begin(), processes_.end(),
                     [&](const FrozenProcess& process) { return place(process) != met.end(); });
}

// One look over the tree, parents first. True when it found tasks that were not frozen yet (and froze them).
Result<bool> Freeze::freeze_newborn() {
  struct Found {
    HostTid pid;
    HostTid parent;
  };
  const int proc_fd = freezer_->proc_fd_;
  std::vector<Found> queue{{freezer_->init_, HostTid{0}}};
  bool found_new = false;
  zombies_.clear();
  for (std::size_t index = 0; index < queue.size(); ++index) {
    if (queue.size() > kMaxProcesses) return make_error(Code::kTooLarge, "more than 65,536 processes");
    const HostTid pid = queue[index].pid;
    const HostTid parent = queue[index].parent;
    std::vector<HostTid> threads{pid};
    if (pid != freezer_->init_) {
      auto process = std::find_if(processes_.begin(), processes_.end(),
                                  [&](const FrozenProcess& candidate) { return candidate.pid == pid; });
      if (process != processes_.end() && freezer_->tasks_.has_threads(pid, process->threads.size())) {
        threads.clear();
        for (const FrozenThread& thread : process->threads) threads.push_back(thread.tid);
      } else {
        Result<std::vector<HostTid>> listed = freezer_->tasks_.threads_of(pid);
        if (!listed.ok() && has_ended(listed.error())) continue;  // between two looks
        if (!listed.ok()) return listed.release_error();
        threads = listed.release_value();
      }
      if (process == processes_.end()) {
        process = processes_.insert(processes_.end(), FrozenProcess{pid, parent, {}});
      }
      process->parent = parent;
      TRY(freeze_new_threads(*process, threads, found_new));
      if (!process->threads.empty() && process->threads.front().tid != pid) {
        // Usually a group on its way out: its leader is gone, the others are going.
        return make_error(Code::kBusy,
                          "the main thread of tid " + std::to_string(pid.value) + " has ended while others run");
      }
      if (process->threads.empty()) {
        if (task_state(proc_fd, pid, pid) == 'Z') {
          const Result<TaskStatus> status = task_status(proc_fd, pid);
          const Result<TaskStatus> parent_status = task_status(proc_fd, parent);
          if (status.ok() && parent_status.ok()) {
            zombies_.push_back({pid, status.value().inside, parent_status.value().inside, status.value().session,
                                status.value().process_group, exit_status(proc_fd, pid)});
          }
        }
        processes_.erase(process);
        continue;
      }
    }
    for (const HostTid tid : threads) {
      Result<std::vector<HostTid>> children = freezer_->tasks_.children_of(pid, tid);
      if (!children.ok() && has_ended(children.error())) continue;
      if (!children.ok()) return children.release_error();
      for (const HostTid child : children.value()) queue.push_back({child, pid});
    }
  }
  std::vector<HostTid> met;
  for (const Found& found : queue) met.push_back(found.pid);
  return found_new || !order_as_met(met);
}

}  // namespace deltabox

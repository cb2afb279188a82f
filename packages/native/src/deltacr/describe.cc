#include "deltacr/describe.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string>

#include "deltacr/interrupted_calls.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr std::uint64_t kKernelSigsetBytes = 8;
constexpr std::size_t kMaxTripFds = 100;  // the rest in further trips; the calls before take about half of a batch

// Where each result lies in the parasite's buffer.
struct Buffer {
  KernelSigaction actions[kSignals];
  itimerval timers[3];
  rlimit limits[kLimits];
  Credentials credentials;
  KernelAltStack alternate_stack;
  char name[kTaskNameBytes];
};
static_assert(sizeof(Buffer) <= parasite::kBufferBytes);

std::uint64_t buffer_address(const parasite::Site& site, std::size_t offset) {
  return site.mapping.value + parasite::kBufferOffset + offset;
}

bool can_have_handler(int signal) { return signal != SIGKILL && signal != SIGSTOP; }

Error refused_call(const char* call, const Call& result, InsidePid pid) {
  return os_error_from(static_cast<int>(-result.result), call, "pid " + std::to_string(pid.value));
}

// The calls of the group's trip, in the order in which read_group_results expects them.
std::vector<Call> group_calls(const parasite::Site& site) {
  const auto at = [&](std::size_t offset) { return buffer_address(site, offset); };
  std::vector<Call> calls;
  calls.push_back(make_call(SYS_brk, 0));
  calls.push_back(make_call(SYS_getpgid, 0));
  calls.push_back(make_call(SYS_getsid, 0));
  calls.push_back(make_call(SYS_getppid));
  const std::uint64_t credentials = offsetof(Buffer, credentials);
  calls.push_back(make_call(SYS_getresuid, at(credentials), at(credentials + 4), at(credentials + 8)));
  calls.push_back(make_call(SYS_getresgid, at(credentials + 12), at(credentials + 16), at(credentials + 20)));
  for (int signal = 1; signal <= kSignals; ++signal) {
    if (!can_have_handler(signal)) continue;
    const std::size_t offset =
        offsetof(Buffer, actions) + sizeof(KernelSigaction) * static_cast<std::size_t>(signal - 1);
    calls.push_back(make_call(SYS_rt_sigaction, static_cast<std::uint64_t>(signal), 0, at(offset), kKernelSigsetBytes));
  }
  for (std::uint64_t timer = 0; timer < 3; ++timer) {
    calls.push_back(make_call(SYS_getitimer, timer, at(offsetof(Buffer, timers) + timer * sizeof(itimerval))));
  }
  for (std::uint64_t limit = 0; limit < kLimits; ++limit) {
    calls.push_back(make_call(SYS_prlimit64, 0, limit, 0, at(offsetof(Buffer, limits) + limit * sizeof(rlimit))));
  }
  return calls;
}

void add_thread_calls(const parasite::Site& site, std::vector<Call>& calls) {
  calls.push_back(make_call(SYS_sigaltstack, 0, buffer_address(site, offsetof(Buffer, alternate_stack))));
  calls.push_back(make_call(SYS_prctl, PR_GET_NAME, buffer_address(site, offsetof(Buffer, name))));
}

Result<void> check_all(const std::vector<Call>& calls, InsidePid pid) {
  for (const Call& call : calls) {
    if (call.result < 0) return refused_call("describing call", call, pid);
  }
  return {};
}

Result<void> read_thread(parasite::Session& session, const parasite::Site& site, ThreadImage& thread) {
  struct {
    KernelAltStack alternate_stack;
    char name[kTaskNameBytes];
  } part;
  static_assert(offsetof(Buffer, name) == offsetof(Buffer, alternate_stack) + sizeof(KernelAltStack));
  TRY(session.read_buffer(site, offsetof(Buffer, alternate_stack), &part, sizeof part));
  thread.alternate_stack = part.alternate_stack;
  std::copy(std::begin(part.name), std::end(part.name), thread.name.begin());
  return {};
}

// Which timed call the thread sleeps in. Once restarted the kernel names it restart_syscall(2), so its number is kept
// from the first stop; instruction and stack pointer tell that the thread is still in it.
std::int64_t remember_timed_call(LiveProcess& live, HostTid tid, const ptrace::Registers& registers) {
  const std::int64_t number = timed_call_number(registers);
  if (number >= 0) {
    live.timed_calls[tid] = {registers.rip, registers.rsp, number};
    return number;
  }
  const auto known = live.timed_calls.find(tid);
  const bool same = known != live.timed_calls.end() && is_restarted_call(registers) &&
                    known->second.instruction == registers.rip && known->second.stack == registers.rsp;
  return same ? known->second.number : -1;
}

Result<ThreadImage> describe_registers(parasite::Session& session, LiveProcess& live, const FrozenThread& frozen) {
  ThreadImage thread;
  thread.tid = frozen.tid;
  thread.registers = session.registers();
  thread.timed_call = remember_timed_call(live, frozen.tid, thread.registers);
  thread.signal_mask = session.signal_mask();
  thread.extended_state = TRY(ptrace::extended_state(frozen.tid));
  if (frozen.held_signal) thread.pending.push_back(*frozen.held_signal);
  const std::vector<siginfo_t> queued = TRY(ptrace::pending_signals(frozen.tid, false));
  thread.pending.insert(thread.pending.end(), queued.begin(), queued.end());
  return thread;
}

// What the thread finds when it goes on after the pause (deltacr/interrupted_calls.h).
void settle_interrupted_call(parasite::Session& session, const ThreadImage& thread,
                             const std::vector<siginfo_t>& group_pending) {
  session.replace_registers(registers_to_go_on(session.registers(), signal_waiting(thread, group_pending)));
}

}  // namespace

bool signal_waiting(const ThreadImage& thread, const std::vector<siginfo_t>& group_pending) {
  const auto unblocked = [&](const siginfo_t& info) { return (thread.signal_mask >> (info.si_signo - 1) & 1) == 0; };
  return std::any_of(thread.pending.begin(), thread.pending.end(), unblocked) ||
         std::any_of(group_pending.begin(), group_pending.end(), unblocked);
}

Result<void> describe_process(parasite::Session& leader, LiveProcess& live, const FrozenProcess& frozen,
                              const std::vector<int>& fds, ProcessImage& image) {
  const parasite::Site& site = live.site;
  // Registers and the signal queue before any run: a run replaces the stop in which they were found.
  image.threads.push_back(TRY(describe_registers(leader, live, frozen.threads.front())));
  image.pending = TRY(ptrace::pending_signals(frozen.pid, true));
  std::vector<Call> calls = group_calls(site);
  add_thread_calls(site, calls);
  const std::size_t first_fd_call = calls.size();
  for (std::size_t index = 0; index < fds.size() && index < kMaxTripFds; ++index) {
    calls.push_back(make_call(SYS_fcntl, static_cast<std::uint64_t>(fds[index]), F_GETFD));
  }
  TRY(leader.run(site, calls));
  TRY(check_all(calls, live.inside));
  Buffer buffer;
  TRY(leader.read_buffer(site, 0, &buffer, sizeof buffer));
  image.program_break = RemoteAddress{static_cast<std::uint64_t>(calls[0].result)};
  image.process_group = static_cast<std::int32_t>(calls[1].result);
  image.session = static_cast<std::int32_t>(calls[2].result);
  image.parent = InsidePid{static_cast<pid_t>(calls[3].result)};
  image.credentials = buffer.credentials;
  std::copy(std::begin(buffer.actions), std::end(buffer.actions), image.actions.begin());
  image.actions[SIGKILL - 1] = image.actions[SIGSTOP - 1] = {};
  std::copy(std::begin(buffer.timers), std::end(buffer.timers), image.timers.begin());
  std::copy(std::begin(buffer.limits), std::end(buffer.limits), image.limits.begin());
  TRY(read_thread(leader, site, image.threads.front()));
  std::vector<std::int64_t> flags;
  for (std::size_t index = first_fd_call; index < calls.size(); ++index) flags.push_back(calls[index].result);
  while (flags.size() < fds.size()) {
    std::vector<Call> more;
    for (std::size_t index = flags.size(); index < fds.size() && more.size() < parasite::kMaxCalls; ++index) {
      more.push_back(make_call(SYS_fcntl, static_cast<std::uint64_t>(fds[index]), F_GETFD));
    }
    TRY(leader.run(site, more));
    TRY(check_all(more, live.inside));
    for (const Call& call : more) flags.push_back(call.result);
  }
  for (std::size_t index = 0; index < fds.size(); ++index) {
    image.descriptors.push_back({fds[index], (flags[index] & FD_CLOEXEC) != 0, 0});
  }
  settle_interrupted_call(leader, image.threads.front(), image.pending);
  image.group_stopped = frozen.threads.front().group_stopped;
  for (std::size_t index = 1; index < frozen.threads.size(); ++index) {
    parasite::Session session = TRY(parasite::Session::begin(frozen.threads[index].tid));
    ThreadImage thread = TRY(describe_registers(session, live, frozen.threads[index]));
    std::vector<Call> thread_trip;
    add_thread_calls(site, thread_trip);
    TRY(session.run(site, thread_trip));
    TRY(check_all(thread_trip, live.inside));
    TRY(read_thread(session, site, thread));
    settle_interrupted_call(session, thread, image.pending);
    image.threads.push_back(std::move(thread));
    TRY(session.finish());
  }
  return {};
}

}  // namespace deltabox

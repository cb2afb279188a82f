#include "deltacr/describe.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string>

#include "tracee/interrupted_calls.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr std::uint64_t kKernelSigsetBytes = 8;
constexpr std::size_t kMaxTripFds = 100;  // the rest in further trips; the calls before take about half of a batch

// Where each result lies in the parasite's buffer.
struct ThreadPart {
  KernelAltStack alternate_stack;
  char name[kTaskNameBytes];
  std::uint64_t robust_list;
  std::uint64_t robust_list_bytes;
  std::uint64_t clear_child_tid;
};
struct Buffer {
  KernelSigaction actions[kSignals];
  itimerval timers[3];
  rlimit limits[kLimits];
  Credentials credentials;
  ThreadPart thread;
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
  const auto at = [&](std::size_t offset) { return buffer_address(site, offsetof(Buffer, thread) + offset); };
  calls.push_back(make_call(SYS_sigaltstack, 0, at(offsetof(ThreadPart, alternate_stack))));
  calls.push_back(make_call(SYS_prctl, PR_GET_NAME, at(offsetof(ThreadPart, name))));
  calls.push_back(make_call(SYS_get_robust_list, 0, at(offsetof(ThreadPart, robust_list)),
                            at(offsetof(ThreadPart, robust_list_bytes))));
  calls.push_back(make_call(SYS_prctl, PR_GET_TID_ADDRESS, at(offsetof(ThreadPart, clear_child_tid))));
}

Result<void> check_all(const std::vector<Call>& calls, InsidePid pid) {
  for (const Call& call : calls) {
    if (call.result < 0) return refused_call("describing call", call, pid);
  }
  return {};
}

Result<void> read_thread(parasite::Session& session, const parasite::Site& site, ThreadImage& thread) {
  ThreadPart part;
  TRY(session.read_buffer(site, offsetof(Buffer, thread), &part, sizeof part));
  thread.alternate_stack = part.alternate_stack;
  std::copy(std::begin(part.name), std::end(part.name), thread.name.begin());
  thread.kernel_pointers = {session.rseq(), part.robust_list, part.robust_list_bytes, part.clear_child_tid};
  return {};
}

Result<ThreadImage> describe_registers(parasite::Session& session, TimedCalls& timed_calls, FrozenThread& frozen) {
  ThreadImage thread;
  thread.tid = frozen.tid;
  thread.registers = session.registers();
  thread.timed_call = timed_calls.observe(frozen.tid, thread.registers);
  thread.signal_mask = session.signal_mask();
  thread.extended_state = TRY(ptrace::extended_state(frozen.tid));
  if (frozen.held_signal) thread.pending.push_back(*frozen.held_signal);
  const std::vector<siginfo_t> queued = TRY(ptrace::pending_signals(frozen.tid, false));
  thread.pending.insert(thread.pending.end(), queued.begin(), queued.end());
  // What it finds when it goes on after the pause.
  session.replace_registers(registers_to_go_on(thread.registers));
  frozen.settled = true;
  return thread;
}

}  // namespace

Result<void> describe_process(parasite::Session& leader, const LiveProcess& live, TimedCalls& timed_calls,
                              FrozenProcess& frozen, const std::vector<int>& fds, ProcessImage& image) {
  const parasite::Site& site = live.site;
  // Registers and the signal queue before any run: a run replaces the stop in which they were found.
  image.threads.push_back(TRY(describe_registers(leader, timed_calls, frozen.threads.front())));
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
  image.group_stopped = frozen.threads.front().group_stopped;
  for (std::size_t index = 1; index < frozen.threads.size(); ++index) {
    parasite::Session session = TRY(parasite::Session::begin(frozen.threads[index].tid));
    ThreadImage thread = TRY(describe_registers(session, timed_calls, frozen.threads[index]));
    std::vector<Call> thread_trip;
    add_thread_calls(site, thread_trip);
    TRY(session.run(site, thread_trip));
    TRY(check_all(thread_trip, live.inside));
    TRY(read_thread(session, site, thread));
    image.threads.push_back(std::move(thread));
    TRY(session.finish());
  }
  return {};
}

}  // namespace deltabox

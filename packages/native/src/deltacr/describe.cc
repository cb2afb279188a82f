#include "deltacr/describe.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <string>

#include "tracee/interrupted_calls.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr std::uint64_t kKernelSigsetBytes = 8;
constexpr std::size_t kMaxTripFds = 100;  // the rest in further trips; the calls before take about half of a batch
constexpr std::size_t kThreadCalls = 5;
constexpr std::size_t kThreadsAtOnce = parasite::kMaxCalls / kThreadCalls;

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
// Further threads, whose calls come after the leader's have been read.
static_assert(sizeof(ThreadPart) * kThreadsAtOnce <= parasite::kBufferBytes);

std::uint64_t buffer_address(const parasite::Site& site, std::size_t offset) {
  return site.mapping.value + parasite::kBufferOffset + offset;
}

// What rt_sigaction(2) has to be asked: all others have the default action, by /proc/PID/status. The flags of a default
// action mean something with SIGCHLD alone (SA_NOCLDWAIT, SA_NOCLDSTOP).
bool may_differ_from_default(int signal, std::uint64_t handled) {
  return signal == SIGCHLD || (handled >> (signal - 1) & 1) != 0;
}

Error refused_call(const char* call, const Call& result, InsidePid pid) {
  return os_error_from(static_cast<int>(-result.result), call, "pid " + std::to_string(pid.value));
}

// The calls of the group's trip, in the order in which read_group_results expects them.
std::vector<Call> group_calls(const parasite::Site& site, std::uint64_t handled_signals) {
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
    if (!may_differ_from_default(signal, handled_signals)) continue;
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

void add_thread_calls(const parasite::Site& site, std::size_t part_offset, std::vector<Call>& calls) {
  const auto at = [&](std::size_t offset) { return buffer_address(site, part_offset + offset); };
  calls.push_back(make_call(SYS_sigaltstack, 0, at(offsetof(ThreadPart, alternate_stack))));
  calls.push_back(make_call(SYS_prctl, PR_GET_NAME, at(offsetof(ThreadPart, name))));
  calls.push_back(make_call(SYS_get_robust_list, 0, at(offsetof(ThreadPart, robust_list)),
                            at(offsetof(ThreadPart, robust_list_bytes))));
  calls.push_back(make_call(SYS_prctl, PR_GET_TID_ADDRESS, at(offsetof(ThreadPart, clear_child_tid))));
  calls.push_back(make_call(SYS_gettid));
}

Result<void> check_all(const std::vector<Call>& calls, InsidePid pid) {
  for (const Call& call : calls) {
    if (call.result < 0) return refused_call("describing call", call, pid);
  }
  return {};
}

void fill_thread(const parasite::Session& session, const ThreadPart& part, ThreadImage& thread) {
  thread.alternate_stack = part.alternate_stack;
  std::copy(std::begin(part.name), std::end(part.name), thread.name.begin());
  thread.kernel_pointers = {session.rseq(), part.robust_list, part.robust_list_bytes, part.clear_child_tid};
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

// Up to kThreadsAtOnce threads side by side, each with calls and results of its own.
Result<void> describe_threads(const LiveProcess& live, TimedCalls& timed_calls, std::span<FrozenThread> frozen,
                              ProcessImage& image) {
  std::vector<parasite::Session> sessions;
  std::vector<Call> calls;
  sessions.reserve(frozen.size());
  calls.reserve(frozen.size() * kThreadCalls);
  const std::size_t first_image = image.threads.size();
  for (std::size_t index = 0; index < frozen.size(); ++index) {
    sessions.push_back(TRY(parasite::Session::begin(frozen[index].tid)));
    image.threads.push_back(TRY(describe_registers(sessions.back(), timed_calls, frozen[index])));
    add_thread_calls(live.site, index * sizeof(ThreadPart), calls);
    const std::size_t slot = index * kThreadCalls;
    TRY(sessions.back().start(live.site, std::span(calls).subspan(slot, kThreadCalls), slot));
  }
  for (std::size_t index = 0; index < frozen.size(); ++index) {
    const std::size_t slot = index * kThreadCalls;
    TRY(sessions[index].collect(live.site, std::span(calls).subspan(slot, kThreadCalls), slot));
  }
  TRY(check_all(calls, live.inside));
  std::vector<ThreadPart> parts(frozen.size());
  TRY(sessions.front().read_buffer(live.site, 0, parts.data(), parts.size() * sizeof(ThreadPart)));
  for (std::size_t index = 0; index < frozen.size(); ++index) {
    ThreadImage& thread = image.threads[first_image + index];
    fill_thread(sessions[index], parts[index], thread);
    thread.inside = InsidePid{static_cast<pid_t>(calls[(index + 1) * kThreadCalls - 1].result)};
    TRY(sessions[index].finish());
  }
  return {};
}

}  // namespace

Result<ThreadImage> describe_thread(const LiveProcess& live, TimedCalls& timed_calls, FrozenThread& frozen) {
  ProcessImage image;
  TRY(describe_threads(live, timed_calls, {&frozen, 1}, image));
  return std::move(image.threads.front());
}

Result<DescribingTrip> start_describing(parasite::Session& leader, const LiveProcess& live, TimedCalls& timed_calls,
                                        FrozenProcess& frozen, std::uint64_t handled_signals,
                                        const std::vector<int>& fds, ProcessImage& image) {
  const parasite::Site& site = live.site;
  // Registers and the signal queue before any run: a run replaces the stop in which they were found.
  image.threads.push_back(TRY(describe_registers(leader, timed_calls, frozen.threads.front())));
  image.pending = TRY(ptrace::pending_signals(frozen.pid, true));
  image.group_stopped = frozen.threads.front().group_stopped;
  DescribingTrip trip;
  trip.calls = group_calls(site, handled_signals);
  add_thread_calls(site, offsetof(Buffer, thread), trip.calls);
  trip.first_fd_call = trip.calls.size();
  for (std::size_t index = 0; index < fds.size(); ++index) {
    image.descriptors.push_back({fds[index], false, 0});
    if (index >= kMaxTripFds) continue;
    trip.calls.push_back(make_call(SYS_fcntl, static_cast<std::uint64_t>(fds[index]), F_GETFD));
  }
  TRY(leader.start(site, trip.calls));
  return trip;
}

Result<void> finish_describing(parasite::Session& leader, const LiveProcess& live, TimedCalls& timed_calls,
                               FrozenProcess& frozen, DescribingTrip& trip, ProcessImage& image) {
  const parasite::Site& site = live.site;
  std::vector<Call>& calls = trip.calls;
  TRY(leader.collect(site, calls));
  TRY(check_all(calls, live.inside));
  Buffer buffer;
  TRY(leader.read_buffer(site, 0, &buffer, sizeof buffer));
  image.program_break = RemoteAddress{static_cast<std::uint64_t>(calls[0].result)};
  image.process_group = static_cast<std::int32_t>(calls[1].result);
  image.session = static_cast<std::int32_t>(calls[2].result);
  image.parent = InsidePid{static_cast<pid_t>(calls[3].result)};
  image.credentials = buffer.credentials;
  for (const Call& call : calls) {
    if (call.number != SYS_rt_sigaction) continue;
    const std::size_t index = static_cast<std::size_t>(call.arguments[0]) - 1;
    image.actions[index] = buffer.actions[index];
  }
  std::copy(std::begin(buffer.timers), std::end(buffer.timers), image.timers.begin());
  std::copy(std::begin(buffer.limits), std::end(buffer.limits), image.limits.begin());
  fill_thread(leader, buffer.thread, image.threads.front());
  image.threads.front().inside = image.pid;
  const std::size_t asked = calls.size() - trip.first_fd_call;
  for (std::size_t index = 0; index < asked; ++index) {
    image.descriptors[index].close_on_exec = (calls[trip.first_fd_call + index].result & FD_CLOEXEC) != 0;
  }
  for (std::size_t first = asked; first < image.descriptors.size(); first += parasite::kMaxCalls) {
    std::vector<Call> more;
    for (std::size_t index = first; index < image.descriptors.size() && more.size() < parasite::kMaxCalls; ++index) {
      more.push_back(make_call(SYS_fcntl, static_cast<std::uint64_t>(image.descriptors[index].fd), F_GETFD));
    }
    TRY(leader.run(site, more));
    TRY(check_all(more, live.inside));
    for (std::size_t index = 0; index < more.size(); ++index) {
      image.descriptors[first + index].close_on_exec = (more[index].result & FD_CLOEXEC) != 0;
    }
  }
  const std::span<FrozenThread> threads(frozen.threads);
  for (std::size_t first = 1; first < threads.size(); first += kThreadsAtOnce) {
    const std::size_t count = std::min(kThreadsAtOnce, threads.size() - first);
    TRY(describe_threads(live, timed_calls, threads.subspan(first, count), image));
  }
  return {};
}

}  // namespace deltabox

#include "deltacr/describe.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>

#include "sys/processes.h"
#include "tracee/interrupted_calls.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr std::uint64_t kKernelSigsetBytes = 8;
constexpr std::size_t kMaxTripFds = 100;  // the rest in further trips; the calls before take about half of a batch

// Places of results among a thread's calls, and of those that are always asked among its group's.
enum ThreadCall : std::size_t {
  kAlternateStack,
  kName,
  kRobustList,
  kTidAddress,
  kTid,
  kScheduling,
  kCpus,
  kIoPriority,
  kTimerSlack,
  kDeathSignal,
  kPersonality,
  kCapabilities,
  kThreadCalls,
};
enum GroupCall : std::size_t {
  kBreak,
  kProcessGroup,
  kSession,
  kParent,
  kUids,
  kGids,
  kDumpable,
  kSubreaper,
  kHugePages,
  kSecureBits,
  kDenyWriteExecute,
  kGroupCalls,
};
constexpr std::size_t kThreadsAtOnce = parasite::kMaxCalls / kThreadCalls;

// Where each result lies in the parasite's buffer.
struct ThreadPart {
  KernelAltStack alternate_stack;
  char name[kTaskNameBytes];
  std::uint64_t robust_list;
  std::uint64_t robust_list_bytes;
  std::uint64_t clear_child_tid;
  KernelScheduling scheduling;
  CpuMask cpus;
  std::int32_t death_signal;
  __user_cap_data_struct capabilities[2];
};
struct Buffer {
  KernelSigaction actions[kSignals];
  itimerval timers[3];
  rlimit limits[kLimits];
  std::uint32_t uids[3];
  std::uint32_t gids[3];
  std::int32_t child_subreaper;
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
  const std::uint64_t uids = offsetof(Buffer, uids);
  const std::uint64_t gids = offsetof(Buffer, gids);
  std::vector<Call> calls(kGroupCalls);
  calls[kBreak] = make_call(SYS_brk, 0);
  calls[kProcessGroup] = make_call(SYS_getpgid, 0);
  calls[kSession] = make_call(SYS_getsid, 0);
  calls[kParent] = make_call(SYS_getppid);
  calls[kUids] = make_call(SYS_getresuid, at(uids), at(uids + 4), at(uids + 8));
  calls[kGids] = make_call(SYS_getresgid, at(gids), at(gids + 4), at(gids + 8));
  calls[kDumpable] = make_call(SYS_prctl, PR_GET_DUMPABLE);
  calls[kSubreaper] = make_call(SYS_prctl, PR_GET_CHILD_SUBREAPER, at(offsetof(Buffer, child_subreaper)));
  calls[kHugePages] = make_call(SYS_prctl, PR_GET_THP_DISABLE);
  calls[kSecureBits] = make_call(SYS_prctl, PR_GET_SECUREBITS);
  calls[kDenyWriteExecute] = make_call(SYS_prctl, abi::kGetDenyWriteExecute);  // 6.3
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

// `slot`: where among the calls inside these will lie. The header that capget(2) reads is one of its own arguments,
// which the call does not use.
void add_thread_calls(const parasite::Site& site, std::size_t part_offset, std::size_t slot, std::vector<Call>& calls) {
  const auto at = [&](std::size_t offset) { return buffer_address(site, part_offset + offset); };
  calls.resize(calls.size() + kThreadCalls);
  const std::span<Call> own = std::span(calls).last(kThreadCalls);
  own[kAlternateStack] = make_call(SYS_sigaltstack, 0, at(offsetof(ThreadPart, alternate_stack)));
  own[kName] = make_call(SYS_prctl, PR_GET_NAME, at(offsetof(ThreadPart, name)));
  own[kRobustList] = make_call(SYS_get_robust_list, 0, at(offsetof(ThreadPart, robust_list)),
                               at(offsetof(ThreadPart, robust_list_bytes)));
  own[kTidAddress] = make_call(SYS_prctl, PR_GET_TID_ADDRESS, at(offsetof(ThreadPart, clear_child_tid)));
  own[kTid] = make_call(SYS_gettid);
  own[kScheduling] = make_call(SYS_sched_getattr, 0, at(offsetof(ThreadPart, scheduling)), sizeof(KernelScheduling), 0);
  own[kCpus] = make_call(SYS_sched_getaffinity, 0, sizeof(CpuMask), at(offsetof(ThreadPart, cpus)));
  own[kIoPriority] = make_call(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);
  own[kTimerSlack] = make_call(SYS_prctl, PR_GET_TIMERSLACK);
  own[kDeathSignal] = make_call(SYS_prctl, PR_GET_PDEATHSIG, at(offsetof(ThreadPart, death_signal)));
  own[kPersonality] = make_call(SYS_personality, 0xffffffff);
  constexpr std::size_t kUnused = 5;
  const std::uint64_t header = site.mapping.value + parasite::kCallsOffset + (slot + kCapabilities) * sizeof(Call) +
                               offsetof(Call, arguments) + kUnused * sizeof(std::uint64_t);
  own[kCapabilities] = make_call(SYS_capget, header, at(offsetof(ThreadPart, capabilities)));
  own[kCapabilities].arguments[kUnused] = _LINUX_CAPABILITY_VERSION_3;  // of the task itself
}

// A filter around the sandbox may refuse these, or the kernel be built without; what is not known then is never
// changed. The answers of some only look like errors.
bool may_be_refused(const Call& call) {
  switch (call.number) {
    case SYS_sched_getattr:
    case SYS_sched_getaffinity:  // more processors than the mask has room for
    case SYS_ioprio_get:
    case SYS_personality:
      return true;
    default:
      return call.number == SYS_prctl &&
             (call.arguments[0] == PR_GET_TIMERSLACK || call.arguments[0] == PR_GET_THP_DISABLE ||
              call.arguments[0] == abi::kGetDenyWriteExecute);
  }
}

Result<void> check_all(const std::vector<Call>& calls, InsidePid pid) {
  for (const Call& call : calls) {
    if (call.result < 0 && !may_be_refused(call)) return refused_call("describing call", call, pid);
  }
  return {};
}

std::uint32_t answer_or_zero(const Call& call) { return call.result < 0 ? 0 : static_cast<std::uint32_t>(call.result); }

void fill_thread(const parasite::Session& session, const ThreadPart& part, std::span<const Call> calls,
                 ThreadImage& thread) {
  thread.alternate_stack = part.alternate_stack;
  std::copy(std::begin(part.name), std::end(part.name), thread.name.begin());
  thread.kernel_pointers = {session.rseq(), part.robust_list, part.robust_list_bytes, part.clear_child_tid};
  ThreadAttributes& attributes = thread.attributes;
  attributes.scheduling = calls[kScheduling].result == 0 ? part.scheduling : KernelScheduling{};
  attributes.cpus = {};
  // The call tells how many bytes it wrote.
  const std::int64_t cpu_bytes = std::clamp<std::int64_t>(calls[kCpus].result, 0, sizeof(CpuMask));
  std::memcpy(attributes.cpus.data(), part.cpus.data(), static_cast<std::size_t>(cpu_bytes));
  attributes.io_priority = answer_or_zero(calls[kIoPriority]);
  attributes.timer_slack_ns = static_cast<std::uint64_t>(calls[kTimerSlack].result);
  attributes.parent_death_signal = static_cast<std::uint32_t>(part.death_signal);
  attributes.personality = answer_or_zero(calls[kPersonality]);
  const auto whole = [](std::uint32_t low, std::uint32_t high) { return std::uint64_t{high} << 32 | low; };
  const auto& [low, high] = part.capabilities;
  thread.capabilities = {whole(low.effective, high.effective), whole(low.permitted, high.permitted),
                         whole(low.inheritable, high.inheritable)};
}

Result<std::vector<siginfo_t>> queued_signals(const LiveProcess& live, HostTid tid, bool shared) {
  Result<std::vector<siginfo_t>> queued = ptrace::pending_signals(tid, shared);
  if (queued.ok() || queued.error().code != Code::kUnsupported) return queued;
  const int pid = live.inside.value;
  Error error = make_error(Code::kUnsupported, "process " + std::to_string(pid) + " has more than 128 queued signals",
                           "Let it take them (or end the process), then try again.");
  error.details.push_back({pid, "signal", "more than 128 queued signals"});
  return error;
}

Result<ThreadImage> describe_registers(const LiveProcess& live, parasite::Session& session, TimedCalls& timed_calls,
                                       FrozenThread& frozen) {
  ThreadImage thread;
  thread.tid = frozen.tid;
  thread.registers = session.registers();
  thread.timed_call = timed_calls.observe(frozen.tid, thread.registers);
  if (thread.timed_call < 0 && is_restarted(thread.registers)) {
    unsigned char code[kCallCodeBytes] = {};
    (void)sys::read_remote(frozen.tid, RemoteAddress{thread.registers.rip - sizeof code}, code, sizeof code);
    thread.timed_call = timed_call_of(code);
    timed_calls.expect(frozen.tid, thread.registers, thread.timed_call);
  }
  thread.signal_mask = session.signal_mask();
  thread.extended_state = TRY(ptrace::extended_state(frozen.tid));
  if (frozen.held_signal) thread.pending.push_back(*frozen.held_signal);
  const std::vector<siginfo_t> queued = TRY(queued_signals(live, frozen.tid, false));
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
    image.threads.push_back(TRY(describe_registers(live, sessions.back(), timed_calls, frozen[index])));
    const std::size_t slot = index * kThreadCalls;
    add_thread_calls(live.site, index * sizeof(ThreadPart), slot, calls);
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
    const std::span<const Call> own = std::span(calls).subspan(index * kThreadCalls, kThreadCalls);
    fill_thread(sessions[index], parts[index], own, thread);
    thread.inside = InsidePid{static_cast<pid_t>(own[kTid].result)};
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
  image.threads.push_back(TRY(describe_registers(live, leader, timed_calls, frozen.threads.front())));
  image.pending = TRY(queued_signals(live, frozen.pid, true));
  image.group_stopped = frozen.threads.front().group_stopped;
  DescribingTrip trip;
  trip.calls = group_calls(site, handled_signals);
  add_thread_calls(site, offsetof(Buffer, thread), trip.calls.size(), trip.calls);
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
  image.program_break = RemoteAddress{static_cast<std::uint64_t>(calls[kBreak].result)};
  image.process_group = static_cast<std::int32_t>(calls[kProcessGroup].result);
  image.session = static_cast<std::int32_t>(calls[kSession].result);
  image.parent = InsidePid{static_cast<pid_t>(calls[kParent].result)};
  std::copy(std::begin(buffer.uids), std::end(buffer.uids), std::begin(image.credentials.uids));
  std::copy(std::begin(buffer.gids), std::end(buffer.gids), std::begin(image.credentials.gids));
  image.credentials.securebits = static_cast<std::uint32_t>(calls[kSecureBits].result);
  image.attributes.dumpable = static_cast<std::uint32_t>(calls[kDumpable].result);
  image.attributes.child_subreaper = static_cast<std::uint32_t>(buffer.child_subreaper);
  image.attributes.huge_pages_off = answer_or_zero(calls[kHugePages]);
  image.attributes.deny_write_execute = answer_or_zero(calls[kDenyWriteExecute]);
  for (const Call& call : calls) {
    if (call.number != SYS_rt_sigaction) continue;
    const std::size_t index = static_cast<std::size_t>(call.arguments[0]) - 1;
    image.actions[index] = buffer.actions[index];
  }
  std::copy(std::begin(buffer.timers), std::end(buffer.timers), image.timers.begin());
  std::copy(std::begin(buffer.limits), std::end(buffer.limits), image.limits.begin());
  const std::size_t thread_calls = trip.first_fd_call - kThreadCalls;
  fill_thread(leader, buffer.thread, std::span(calls).subspan(thread_calls, kThreadCalls), image.threads.front());
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

#include "tracee/ptrace.h"

#include <elf.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cerrno>
#include <string>

namespace deltabox::ptrace {

namespace {

std::string name_of(HostTid tid) { return "tid " + std::to_string(tid.value); }

Result<void> request(__ptrace_request code, const char* name, HostTid tid, void* address = nullptr,
                     void* data = nullptr) {
  if (::ptrace(code, tid.value, address, data) < 0) return os_error(name, name_of(tid));
  return {};
}

template <typename T>
void* as_pointer(T value) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(value));
}

}  // namespace

Result<void> seize(HostTid tid) {
  return request(PTRACE_SEIZE, "PTRACE_SEIZE", tid, nullptr, as_pointer(PTRACE_O_TRACESECCOMP));
}
Result<void> trace_births(HostTid tid, bool on) {
  constexpr std::uint64_t kBirths = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;
  return request(PTRACE_SETOPTIONS, "PTRACE_SETOPTIONS", tid, nullptr,
                 as_pointer(PTRACE_O_TRACESECCOMP | (on ? kBirths : 0)));
}

Result<HostTid> born(HostTid tid) {
  unsigned long message = 0;
  TRY(request(PTRACE_GETEVENTMSG, "PTRACE_GETEVENTMSG", tid, nullptr, &message));
  return HostTid{static_cast<pid_t>(message)};
}

Result<void> interrupt(HostTid tid) { return request(PTRACE_INTERRUPT, "PTRACE_INTERRUPT", tid); }
Result<void> detach(HostTid tid, int signal) {
  return request(PTRACE_DETACH, "PTRACE_DETACH", tid, nullptr, as_pointer(signal));
}
Result<void> resume(HostTid tid, int signal) {
  return request(PTRACE_CONT, "PTRACE_CONT", tid, nullptr, as_pointer(signal));
}
Result<void> single_step(HostTid tid) { return request(PTRACE_SINGLESTEP, "PTRACE_SINGLESTEP", tid); }

Result<Registers> registers(HostTid tid) {
  Registers values{};
  TRY(request(PTRACE_GETREGS, "PTRACE_GETREGS", tid, nullptr, &values));
  return values;
}

Result<void> set_registers(HostTid tid, const Registers& registers) {
  return request(PTRACE_SETREGS, "PTRACE_SETREGS", tid, nullptr, const_cast<Registers*>(&registers));
}

Result<ExtendedState> extended_state(HostTid tid) {
  ExtendedState state(16384);  // AMX needs about 11 KiB; the kernel says how much it used
  iovec vector{state.data(), state.size()};
  TRY(request(PTRACE_GETREGSET, "PTRACE_GETREGSET", tid, as_pointer(NT_X86_XSTATE), &vector));
  state.resize(vector.iov_len);
  return state;
}

Result<void> set_extended_state(HostTid tid, const ExtendedState& state) {
  iovec vector{const_cast<std::byte*>(state.data()), state.size()};
  return request(PTRACE_SETREGSET, "PTRACE_SETREGSET", tid, as_pointer(NT_X86_XSTATE), &vector);
}

Result<SignalMask> signal_mask(HostTid tid) {
  SignalMask mask = 0;
  TRY(request(PTRACE_GETSIGMASK, "PTRACE_GETSIGMASK", tid, as_pointer(sizeof mask), &mask));
  return mask;
}

Result<void> set_signal_mask(HostTid tid, SignalMask mask) {
  return request(PTRACE_SETSIGMASK, "PTRACE_SETSIGMASK", tid, as_pointer(sizeof mask), &mask);
}

Result<siginfo_t> signal_info(HostTid tid) {
  siginfo_t info{};
  TRY(request(PTRACE_GETSIGINFO, "PTRACE_GETSIGINFO", tid, nullptr, &info));
  return info;
}

Result<void> set_signal_info(HostTid tid, const siginfo_t& info) {
  return request(PTRACE_SETSIGINFO, "PTRACE_SETSIGINFO", tid, nullptr, const_cast<siginfo_t*>(&info));
}

Result<std::vector<siginfo_t>> pending_signals(HostTid tid, bool shared) {
  constexpr int kMost = 128;
  siginfo_t queue[8];
  std::vector<siginfo_t> signals;
  while (signals.size() < kMost) {
    __ptrace_peeksiginfo_args arguments{};
    arguments.off = signals.size();
    arguments.flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0;
    arguments.nr = 8;
    const long count = ::ptrace(PTRACE_PEEKSIGINFO, tid.value, &arguments, queue);
    if (count < 0) return os_error("PTRACE_PEEKSIGINFO", name_of(tid));
    signals.insert(signals.end(), queue, queue + count);
    if (count < 8) return signals;
  }
  return make_error(Code::kUnsupported, name_of(tid) + " has more than 128 queued signals");
}

Result<abi::RseqConfiguration> rseq_configuration(HostTid tid) {
  abi::RseqConfiguration configuration{};
  const long size = ::ptrace(static_cast<__ptrace_request>(abi::kPtraceGetRseqConfiguration), tid.value,
                             sizeof configuration, &configuration);
  if (size < 0) return os_error("PTRACE_GET_RSEQ_CONFIGURATION", name_of(tid));
  return configuration;
}

Result<Stop> wait_for_stop(HostTid tid) {
  int status = 0;
  if (::waitpid(tid.value, &status, __WALL) < 0) {
    if (errno == EINTR) return make_error(Code::kBusy, name_of(tid) + " did not stop in time");
    if (errno == ECHILD) return Stop{Stop::Kind::kGone, 0};
    return os_error("waitpid", name_of(tid));
  }
  if (WIFEXITED(status) || WIFSIGNALED(status)) return Stop{Stop::Kind::kGone, 0};
  const int signal = WSTOPSIG(status);
  switch (status >> 16) {
    case 0:
      return Stop{Stop::Kind::kSignal, signal};
    case PTRACE_EVENT_STOP:
      // SIGTRAP: our interrupt. A stopping signal: a group stop, by now or before (ptrace(2)).
      return signal == SIGTRAP ? Stop{Stop::Kind::kInterrupted, 0} : Stop{Stop::Kind::kGroupStop, signal};
    case PTRACE_EVENT_SECCOMP:
      return Stop{Stop::Kind::kSeccomp, 0};
    case PTRACE_EVENT_CLONE:
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
      return Stop{Stop::Kind::kBirth, 0};
    case PTRACE_EVENT_EXEC:
      return Stop{Stop::Kind::kExec, 0};
    default:
      return Stop{Stop::Kind::kOther, signal};
  }
}

namespace {
void on_timer(int) {}
}  // namespace

Deadline::Deadline(std::uint64_t timeout_us) {
  // No SA_RESTART: the point is that waitpid returns EINTR. The timer repeats, in case the first one falls between
  // calls.
  struct sigaction action {};
  action.sa_handler = on_timer;
  ::sigaction(SIGALRM, &action, nullptr);
  itimerval timer{};
  timer.it_value.tv_sec = static_cast<time_t>(timeout_us / 1'000'000);
  timer.it_value.tv_usec = static_cast<suseconds_t>(timeout_us % 1'000'000);
  timer.it_interval.tv_usec = 5'000;
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

Deadline::~Deadline() {
  const itimerval off{};
  ::setitimer(ITIMER_REAL, &off, nullptr);
}

}  // namespace deltabox::ptrace

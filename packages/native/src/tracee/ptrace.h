// ptrace requests on a stopped thread, one Result-returning function per request. A thread that is gone answers with
// Code::kTraceeGone, which callers treat as an outcome and not as a fault.
#pragma once

#include <signal.h>
#include <sys/user.h>

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "sys/kernel_abi.h"

namespace deltabox::ptrace {

using Registers = user_regs_struct;
using ExtendedState = std::vector<std::byte>;  // NT_X86_XSTATE
using SignalMask = std::uint64_t;

// Attaches without stopping. The options make clone3 and userfaultfd pass the sandbox's filter while attached.
Result<void> seize(HostTid tid);
Result<void> interrupt(HostTid tid);
// Detaches and lets the thread run; `signal` is delivered when the thread is in a signal-delivery stop.
Result<void> detach(HostTid tid, int signal = 0);
// `signal` as for detach().
Result<void> resume(HostTid tid, int signal = 0);
Result<void> single_step(HostTid tid);
// Children and threads that it makes from now on are seized at birth and stand still; its exec stops too. Off again:
// births pass, which is what seize() sets.
Result<void> trace_births(HostTid tid, bool on);
// At a stop of kind kBirth: who was born.
Result<HostTid> born(HostTid tid);

Result<Registers> registers(HostTid tid);
Result<void> set_registers(HostTid tid, const Registers& registers);
Result<ExtendedState> extended_state(HostTid tid);
Result<void> set_extended_state(HostTid tid, const ExtendedState& state);
Result<SignalMask> signal_mask(HostTid tid);
Result<void> set_signal_mask(HostTid tid, SignalMask mask);
Result<siginfo_t> signal_info(HostTid tid);
Result<void> set_signal_info(HostTid tid, const siginfo_t& info);
// Queued signals without taking them: of the thread, or of its group when `shared`. At most 128.
Result<std::vector<siginfo_t>> pending_signals(HostTid tid, bool shared);
Result<abi::RseqConfiguration> rseq_configuration(HostTid tid);

// What waitpid said of a thread.
struct Stop {
  enum class Kind { kInterrupted, kGroupStop, kSignal, kSeccomp, kBirth, kExec, kOther, kGone };
  Kind kind = Kind::kOther;
  int signal = 0;  // kSignal, kGroupStop
};
// Blocks until the thread stops or ends. A deadline is kept by Deadline below.
Result<Stop> wait_for_stop(HostTid tid);

// While it lives, a blocked wait_for_stop fails with BUSY once the time is over (a timer signal interrupts waitpid).
class Deadline {
 public:
  explicit Deadline(std::uint64_t timeout_us);
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  ~Deadline();
};

}  // namespace deltabox::ptrace

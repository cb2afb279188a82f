#include "tracee/interrupted_calls.h"

#include <sys/syscall.h>

namespace deltabox {

namespace {

constexpr long kRestartNoHandler = -514;  // ERESTARTNOHAND: restart with the same arguments
constexpr long kRestartBlock = -516;
constexpr long kInterrupted = -4;

bool ends_with_eintr_when_frozen(long call) {
  return call == SYS_epoll_wait || call == SYS_epoll_pwait || call == SYS_epoll_pwait2 || call == SYS_rt_sigtimedwait;
}

bool in_timed_call(const ptrace::Registers& registers) {
  return static_cast<long>(registers.rax) == kRestartBlock && static_cast<long>(registers.orig_rax) >= 0;
}

bool is_restarted(const ptrace::Registers& registers) {
  return in_timed_call(registers) && static_cast<long>(registers.orig_rax) == SYS_restart_syscall;
}

}  // namespace

ptrace::Registers registers_to_go_on(ptrace::Registers registers) {
  const long call = static_cast<long>(registers.orig_rax);
  if (static_cast<long>(registers.rax) == kInterrupted && ends_with_eintr_when_frozen(call)) {
    registers.rax = static_cast<unsigned long long>(kRestartNoHandler);
  }
  return registers;
}

ptrace::Registers registers_to_roll_back(ptrace::Registers registers, std::int64_t timed_call) {
  if (!in_timed_call(registers)) return registers_to_go_on(registers);
  if (is_restarted(registers)) {
    if (timed_call < 0) {
      registers.rax = static_cast<unsigned long long>(kInterrupted);
      registers.orig_rax = static_cast<unsigned long long>(-1);
      return registers;
    }
    registers.orig_rax = static_cast<unsigned long long>(timed_call);
  }
  registers.rax = static_cast<unsigned long long>(kRestartNoHandler);
  return registers;
}

std::int64_t TimedCalls::observe(HostTid tid, const ptrace::Registers& registers) {
  if (!in_timed_call(registers)) return -1;
  if (!is_restarted(registers)) {
    const auto number = static_cast<std::int64_t>(registers.orig_rax);
    calls_[tid] = {registers.rip, registers.rsp, number};
    return number;
  }
  const auto known = calls_.find(tid);
  const bool same =
      known != calls_.end() && known->second.instruction == registers.rip && known->second.stack == registers.rsp;
  return same ? known->second.number : -1;
}

void TimedCalls::expect(HostTid tid, const ptrace::Registers& registers, std::int64_t number) {
  if (number >= 0) calls_[tid] = {registers.rip, registers.rsp, number};
}

}  // namespace deltabox

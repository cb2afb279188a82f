#include "deltacr/interrupted_calls.h"

#include <sys/syscall.h>

namespace deltabox {

namespace {

constexpr long kRestartNoHandler = -514;  // ERESTARTNOHAND: restart with the same arguments
constexpr long kRestartBlock = -516;
constexpr long kInterrupted = -4;

bool ends_with_eintr_when_frozen(long call) {
  return call == SYS_epoll_wait || call == SYS_epoll_pwait || call == SYS_epoll_pwait2 || call == SYS_rt_sigtimedwait;
}

}  // namespace

ptrace::Registers registers_to_go_on(ptrace::Registers registers, bool signal_waiting) {
  const long call = static_cast<long>(registers.orig_rax);
  const long result = static_cast<long>(registers.rax);
  if (call >= 0 && result == kInterrupted && !signal_waiting && ends_with_eintr_when_frozen(call)) {
    registers.rax = static_cast<unsigned long long>(kRestartNoHandler);
  }
  return registers;
}

ptrace::Registers registers_to_roll_back(ptrace::Registers registers, bool signal_waiting, std::int64_t timed_call) {
  registers = registers_to_go_on(registers, signal_waiting);
  if (is_restarted_call(registers)) {
    if (timed_call < 0) {
      registers.rax = static_cast<unsigned long long>(kInterrupted);
      registers.orig_rax = static_cast<unsigned long long>(-1);
      return registers;
    }
    registers.orig_rax = static_cast<unsigned long long>(timed_call);
  }
  if (static_cast<long>(registers.orig_rax) >= 0 && static_cast<long>(registers.rax) == kRestartBlock) {
    registers.rax = static_cast<unsigned long long>(kRestartNoHandler);
  }
  return registers;
}

std::int64_t timed_call_number(const ptrace::Registers& registers) {
  const bool timed = static_cast<long>(registers.rax) == kRestartBlock && static_cast<long>(registers.orig_rax) >= 0;
  return timed && !is_restarted_call(registers) ? static_cast<std::int64_t>(registers.orig_rax) : -1;
}

bool is_restarted_call(const ptrace::Registers& registers) {
  return static_cast<long>(registers.orig_rax) == SYS_restart_syscall &&
         static_cast<long>(registers.rax) == kRestartBlock;
}

}  // namespace deltabox

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

ptrace::Registers registers_to_roll_back(ptrace::Registers registers, bool signal_waiting) {
  registers = registers_to_go_on(registers, signal_waiting);
  if (static_cast<long>(registers.orig_rax) >= 0 && static_cast<long>(registers.rax) == kRestartBlock) {
    registers.rax = static_cast<unsigned long long>(kRestartNoHandler);
  }
  return registers;
}

}  // namespace deltabox

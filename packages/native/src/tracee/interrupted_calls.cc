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

// A rollback put it back, and the thread has not run since: it will begin the call from the start.
bool will_begin_anew(const ptrace::Registers& registers) {
  return static_cast<long>(registers.rax) == kRestartNoHandler && static_cast<long>(registers.orig_rax) >= 0;
}

}  // namespace

bool is_restarted(const ptrace::Registers& registers) {
  return in_timed_call(registers) && static_cast<long>(registers.orig_rax) == SYS_restart_syscall;
}

std::int64_t timed_call_of(std::span<const unsigned char, kCallCodeBytes> code) {
  const bool is_call = code[0] == 0xb8 && code[5] == 0x0f && code[6] == 0x05;
  const std::int64_t number = code[1] | code[2] << 8 | code[3] << 16 | static_cast<std::int64_t>(code[4]) << 24;
  const bool is_timed =
      number == SYS_poll || number == SYS_nanosleep || number == SYS_futex || number == SYS_clock_nanosleep;
  return is_call && is_timed ? number : -1;
}

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
  const auto number = static_cast<std::int64_t>(registers.orig_rax);
  if (will_begin_anew(registers)) calls_[tid] = {registers.rip, registers.rsp, number};
  if (!in_timed_call(registers)) return -1;
  if (!is_restarted(registers)) {
    calls_[tid] = {registers.rip, registers.rsp, number};
    return number;
  }
  const auto known = calls_.find(tid);
  const bool same =
      known != calls_.end() && known->second.instruction == registers.rip && known->second.stack == registers.rsp;
  return same ? known->second.number : -1;
}

void TimedCalls::expect(HostTid tid, const ptrace::Registers& registers, std::int64_t number) {
  (void)observe(tid, registers);
  if (number >= 0) calls_[tid] = {registers.rip, registers.rsp, number};
}

}  // namespace deltabox

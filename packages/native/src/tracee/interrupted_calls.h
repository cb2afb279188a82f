// What happens to the system call that a freeze interrupted. Pure: registers in, registers out.
//
// At a stop inside a call, orig_rax is its number and rax the kernel's own restart code. Put back raw, the kernel
// restarts the call when the thread goes on. Two codes need care:
//  -516 (ERESTART_RESTARTBLOCK: nanosleep, poll, timed futex) resumes the restart block that lies in the thread. Once
//       the thread went on and blocked elsewhere, that is the wrong block; after a rollback the call restarts in full.
//       From its first restart on the kernel names such a call restart_syscall(2), so its number is remembered. Where
//       something else was the first to interrupt it (a SIGSTOP, a signal that is ignored), the code tells it.
//  -4   (EINTR: epoll_wait and its like, rt_sigtimedwait) is the end of the call: the program would see an interruption
//       that never was. Restarted as -514 (ERESTARTNOHAND) it still ends so when a handler runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

#include "base/ids.h"
#include "tracee/ptrace.h"

namespace deltabox {

// After a pause: the same thread goes on.
ptrace::Registers registers_to_go_on(ptrace::Registers registers);
// After a rollback: the thread may have blocked elsewhere since. `timed_call`: which call it was, when the registers
// only say restart_syscall(2); -1 when that is not known, and the program sees an interruption, which the man page of
// every such call allows.
ptrace::Registers registers_to_roll_back(ptrace::Registers registers, std::int64_t timed_call);

// Whether the registers say restart_syscall(2), in which a timed call goes on.
bool is_restarted(const ptrace::Registers& registers);

// What lies before `rip` where a C library or a compiler makes a call: mov $number, %eax; syscall.
inline constexpr std::size_t kCallCodeBytes = 7;
// Which of the calls that the kernel restarts by restart_syscall(2) such code makes, or -1.
std::int64_t timed_call_of(std::span<const unsigned char, kCallCodeBytes> code);

// Remembers which call a thread sleeps in. It must see every stop of every thread.
class TimedCalls {
 public:
  // The number of the interrupted timed call, or -1 when the thread is in none or it is not known.
  std::int64_t observe(HostTid tid, const ptrace::Registers& registers);
  // A rollback gave a thread these registers, in which that call goes on: also when something else than a freeze is the
  // first to interrupt it.
  void expect(HostTid tid, const ptrace::Registers& registers, std::int64_t number);
  template <typename Keep>
  void forget_unless(Keep keep) {
    std::erase_if(calls_, [&](const auto& entry) { return !keep(entry.first); });
  }

 private:
  struct Call {
    std::uint64_t instruction = 0;  // rip and rsp tell whether it is still the same call
    std::uint64_t stack = 0;
    std::int64_t number = -1;
  };
  std::map<HostTid, Call> calls_;
};

}  // namespace deltabox

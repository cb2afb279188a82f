// What happens to the system call that a freeze interrupted. Pure: registers in, registers out.
//
// At a stop inside a call, orig_rax is its number and rax the kernel's own restart code. Put back raw, the kernel
// restarts the call when the thread goes on. Two codes need care:
//  -516 (ERESTART_RESTARTBLOCK: nanosleep, poll, timed futex) resumes the restart block that lies in the thread. Once
//       the thread went on and blocked elsewhere, that is the wrong block; after a rollback the call restarts in full.
//  -4   (EINTR: epoll_wait and its like, rt_sigtimedwait) is the end of the call: the program would see an interruption
//       that never was.
#pragma once

#include "tracee/ptrace.h"

namespace deltabox {

// After a checkpoint: the same thread goes on. `signal_waiting`: a signal is about to be delivered, so EINTR is true.
ptrace::Registers registers_to_go_on(ptrace::Registers registers, bool signal_waiting);
// After a rollback: the thread may have blocked elsewhere since.
// `timed_call`: which call it was, when the registers only say restart_syscall(2); -1 when that is not known, and the
// program sees an interruption, which the man page of every such call allows.
ptrace::Registers registers_to_roll_back(ptrace::Registers registers, bool signal_waiting,
                                         std::int64_t timed_call = -1);

// The number of the interrupted call that sleeps with a time-out, from a stop at which it was still named, or -1.
std::int64_t timed_call_number(const ptrace::Registers& registers);
// True when the registers stand in restart_syscall(2).
bool is_restarted_call(const ptrace::Registers& registers);

}  // namespace deltabox

#include "deltacr/interrupted_calls.h"

#include <sys/syscall.h>

#include <cstring>

#include "expect.h"

namespace deltabox::test {

namespace {

constexpr long kRestartSys = -512;
constexpr long kRestartNoHandler = -514;
constexpr long kRestartBlock = -516;

ptrace::Registers stopped_in(long call, long result) {
  ptrace::Registers registers{};
  registers.orig_rax = static_cast<unsigned long long>(call);
  registers.rax = static_cast<unsigned long long>(result);
  registers.rip = 0x1234;
  registers.rdi = 3;
  return registers;
}

long result_of(const ptrace::Registers& registers) { return static_cast<long>(registers.rax); }

}  // namespace

TEST_CASE("a checkpoint leaves restartable calls to the kernel") {
  for (const long result : {kRestartSys, -513L, kRestartNoHandler, kRestartBlock}) {
    for (const long call : {SYS_read, SYS_nanosleep, SYS_poll, SYS_futex, SYS_epoll_wait}) {
      CHECK(result_of(registers_to_go_on(stopped_in(call, result), false)) == result);
    }
  }
}

TEST_CASE("a rollback restarts a call in full where the restart block may be another's") {
  CHECK(result_of(registers_to_roll_back(stopped_in(SYS_nanosleep, kRestartBlock), false)) == kRestartNoHandler);
  CHECK(result_of(registers_to_roll_back(stopped_in(SYS_poll, kRestartBlock), true)) == kRestartNoHandler);
  CHECK(result_of(registers_to_roll_back(stopped_in(SYS_read, kRestartSys), false)) == kRestartSys);
}

TEST_CASE("a call that was restarted before is started under its own number, or ends as interrupted") {
  const ptrace::Registers restarted = stopped_in(SYS_restart_syscall, kRestartBlock);
  CHECK(is_restarted_call(restarted));
  CHECK_FALSE(is_restarted_call(stopped_in(SYS_nanosleep, kRestartBlock)));
  CHECK_FALSE(is_restarted_call(stopped_in(SYS_restart_syscall, 0)));
  const ptrace::Registers known = registers_to_roll_back(restarted, false, SYS_poll);
  CHECK(static_cast<long>(known.orig_rax) == SYS_poll);
  CHECK(result_of(known) == kRestartNoHandler);
  const ptrace::Registers unknown = registers_to_roll_back(restarted, false);
  CHECK(static_cast<long>(unknown.orig_rax) == -1);
  CHECK(result_of(unknown) == -EINTR);
  CHECK(result_of(registers_to_go_on(restarted, false)) == kRestartBlock);
}

TEST_CASE("the number of a call with a time-out is known while the registers still say it") {
  CHECK(timed_call_number(stopped_in(SYS_nanosleep, kRestartBlock)) == SYS_nanosleep);
  CHECK(timed_call_number(stopped_in(SYS_restart_syscall, kRestartBlock)) == -1);
  CHECK(timed_call_number(stopped_in(SYS_read, kRestartSys)) == -1);
  CHECK(timed_call_number(stopped_in(-1, kRestartBlock)) == -1);
}

TEST_CASE("no program sees an interruption of epoll_wait that never was") {
  for (const long call : {SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_rt_sigtimedwait}) {
    CAPTURE(call);
    CHECK(result_of(registers_to_go_on(stopped_in(call, -EINTR), false)) == kRestartNoHandler);
    CHECK(result_of(registers_to_roll_back(stopped_in(call, -EINTR), false)) == kRestartNoHandler);
    CHECK(result_of(registers_to_go_on(stopped_in(call, -EINTR), true)) == -EINTR);
    CHECK(result_of(registers_to_roll_back(stopped_in(call, -EINTR), true)) == -EINTR);
  }
}

TEST_CASE("other results of calls are left alone") {
  for (const long result : {0L, 5L, static_cast<long>(-EINTR), static_cast<long>(-EAGAIN), -1L}) {
    CHECK(result_of(registers_to_roll_back(stopped_in(SYS_read, result), false)) == result);
  }
}

TEST_CASE("a thread stopped in its own code keeps every register, whatever rax holds") {
  for (const long value : {kRestartBlock, static_cast<long>(-EINTR), kRestartSys}) {
    const ptrace::Registers before = stopped_in(-1, value);
    const ptrace::Registers after = registers_to_roll_back(before, false);
    CHECK(std::memcmp(&before, &after, sizeof before) == 0);
  }
}

TEST_CASE("nothing but rax is ever changed") {
  ptrace::Registers before = stopped_in(SYS_nanosleep, kRestartBlock);
  ptrace::Registers after = registers_to_roll_back(before, false);
  after.rax = before.rax;
  CHECK(std::memcmp(&before, &after, sizeof before) == 0);
}

}  // namespace deltabox::test

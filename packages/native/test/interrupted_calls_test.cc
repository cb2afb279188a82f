#include "tracee/interrupted_calls.h"

#include <sys/syscall.h>

#include <array>
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
      CHECK(result_of(registers_to_go_on(stopped_in(call, result))) == result);
    }
  }
}

TEST_CASE("a rollback restarts a call in full where the restart block may be another's") {
  CHECK(result_of(registers_to_roll_back(stopped_in(SYS_nanosleep, kRestartBlock), SYS_nanosleep)) ==
        kRestartNoHandler);
  CHECK(result_of(registers_to_roll_back(stopped_in(SYS_poll, kRestartBlock), -1)) == kRestartNoHandler);
  CHECK(result_of(registers_to_roll_back(stopped_in(SYS_read, kRestartSys), -1)) == kRestartSys);
}

TEST_CASE("a call that was restarted before is started under its own number, or ends as interrupted") {
  const ptrace::Registers restarted = stopped_in(SYS_restart_syscall, kRestartBlock);
  const ptrace::Registers known = registers_to_roll_back(restarted, SYS_poll);
  CHECK(static_cast<long>(known.orig_rax) == SYS_poll);
  CHECK(result_of(known) == kRestartNoHandler);
  const ptrace::Registers unknown = registers_to_roll_back(restarted, -1);
  CHECK(static_cast<long>(unknown.orig_rax) == -1);
  CHECK(result_of(unknown) == -EINTR);
  CHECK(result_of(registers_to_go_on(restarted)) == kRestartBlock);
}

TEST_CASE("which call a thread sleeps in is known from its first stop on, as long as it stays in it") {
  TimedCalls calls;
  const HostTid tid{7};
  const ptrace::Registers restarted = stopped_in(SYS_restart_syscall, kRestartBlock);
  CHECK(calls.observe(tid, restarted) == -1);
  CHECK(calls.observe(tid, stopped_in(SYS_nanosleep, kRestartBlock)) == SYS_nanosleep);
  CHECK(calls.observe(tid, restarted) == SYS_nanosleep);
  CHECK(calls.observe(HostTid{8}, restarted) == -1);
  CHECK(calls.observe(tid, stopped_in(SYS_read, kRestartSys)) == -1);
  CHECK(calls.observe(tid, stopped_in(-1, kRestartBlock)) == -1);
  ptrace::Registers elsewhere = restarted;
  elsewhere.rsp = 64;
  CHECK(calls.observe(tid, elsewhere) == -1);
  calls.forget_unless([](HostTid) { return false; });
  CHECK(calls.observe(tid, restarted) == -1);
}

TEST_CASE("a call that a rollback started is known, whoever interrupts it first") {
  TimedCalls calls;
  const HostTid tid{7};
  const ptrace::Registers restarted = stopped_in(SYS_restart_syscall, kRestartBlock);
  calls.expect(tid, restarted, SYS_poll);
  CHECK(calls.observe(tid, restarted) == SYS_poll);
  calls.expect(HostTid{8}, restarted, -1);
  CHECK(calls.observe(HostTid{8}, restarted) == -1);
}

TEST_CASE("a call that a rollback put back is known before the thread has run") {
  TimedCalls calls;
  const HostTid tid{7};
  const ptrace::Registers restarted = stopped_in(SYS_restart_syscall, kRestartBlock);
  CHECK(calls.observe(tid, stopped_in(SYS_poll, kRestartNoHandler)) == -1);  // the registers say it themselves
  CHECK(calls.observe(tid, restarted) == SYS_poll);
  calls.expect(HostTid{8}, stopped_in(SYS_poll, kRestartNoHandler), -1);
  CHECK(calls.observe(HostTid{8}, restarted) == SYS_poll);
}

TEST_CASE("the code before a restarted call tells which it is") {
  const auto number_in = [](std::array<unsigned char, kCallCodeBytes> code) { return timed_call_of(code); };
  CHECK(number_in({0xb8, 7, 0, 0, 0, 0x0f, 0x05}) == SYS_poll);
  CHECK(number_in({0xb8, 202, 0, 0, 0, 0x0f, 0x05}) == SYS_futex);
  CHECK(number_in({0xb8, 0, 0, 0, 0, 0x0f, 0x05}) == -1);  // read(2) is never restarted so
  CHECK(number_in({0xb8, 7, 0, 0, 1, 0x0f, 0x05}) == -1);
  CHECK(number_in({0xb8, 7, 0, 0, 0, 0x0f, 0x34}) == -1);
  CHECK(number_in({0x89, 7, 0, 0, 0, 0x0f, 0x05}) == -1);
}

TEST_CASE("no program sees an interruption of epoll_wait that never was") {
  for (const long call : {SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_rt_sigtimedwait}) {
    CAPTURE(call);
    CHECK(result_of(registers_to_go_on(stopped_in(call, -EINTR))) == kRestartNoHandler);
    CHECK(result_of(registers_to_roll_back(stopped_in(call, -EINTR), -1)) == kRestartNoHandler);
  }
}

TEST_CASE("other results of calls are left alone") {
  for (const long result : {0L, 5L, static_cast<long>(-EINTR), static_cast<long>(-EAGAIN), -1L}) {
    CHECK(result_of(registers_to_roll_back(stopped_in(SYS_read, result), -1)) == result);
  }
}

TEST_CASE("a thread stopped in its own code keeps every register, whatever rax holds") {
  for (const long value : {kRestartBlock, static_cast<long>(-EINTR), kRestartSys}) {
    const ptrace::Registers before = stopped_in(-1, value);
    const ptrace::Registers after = registers_to_roll_back(before, -1);
    CHECK(std::memcmp(&before, &after, sizeof before) == 0);
  }
}

TEST_CASE("nothing but rax is ever changed") {
  ptrace::Registers before = stopped_in(SYS_nanosleep, kRestartBlock);
  ptrace::Registers after = registers_to_roll_back(before, -1);
  after.rax = before.rax;
  CHECK(std::memcmp(&before, &after, sizeof before) == 0);
}

}  // namespace deltabox::test

#include "sandbox/init/filter.h"

#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "expect.h"

namespace deltabox::test {

namespace {

constexpr std::uint32_t kEnosys = SECCOMP_RET_ERRNO | ENOSYS;
constexpr std::uint32_t kEperm = SECCOMP_RET_ERRNO | EPERM;

// The part of classic BPF that the program uses; anything else fails the test.
std::uint32_t interpret(const seccomp_data& data, const decltype(filter::kProgram)& program = filter::kProgram) {
  std::uint32_t accumulator = 0;
  for (std::size_t at = 0; at < program.size; ++at) {
    const sock_filter& step = program.code[at];
    bool taken = false;
    switch (step.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        REQUIRE(step.k + sizeof accumulator <= sizeof data);
        std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + step.k, sizeof accumulator);
        continue;
      case BPF_ALU | BPF_AND | BPF_K:
        accumulator &= step.k;
        continue;
      case BPF_RET | BPF_K:
        return step.k;
      case BPF_JMP | BPF_JEQ | BPF_K:
        taken = accumulator == step.k;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        taken = accumulator >= step.k;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        taken = (accumulator & step.k) != 0;
        break;
      default:
        FAIL("an instruction that the filter should not need: " << step.code);
    }
    at += taken ? step.jt : step.jf;
  }
  FAIL("the program runs over its end");
  return 0;
}

std::uint32_t answer(int number, std::uint64_t first = 0, std::uint64_t second = 0) {
  seccomp_data data{};
  data.nr = number;
  data.arch = AUDIT_ARCH_X86_64;
  data.args[0] = first;
  data.args[1] = second;
  return interpret(data);
}

template <std::size_t kSize>
bool lists(const int (&numbers)[kSize], int number) {
  return std::find(std::begin(numbers), std::end(numbers), number) != std::end(numbers);
}

// The first check in a child under the filter that fails, or 0.
int check_under_filter() {
  const sock_fprog program{static_cast<unsigned short>(filter::kProgram.size),
                           const_cast<sock_filter*>(filter::kProgram.code)};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 1;
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) return 2;
  const auto fails_with = [](int expected, long result) { return result == -1 && errno == expected; };
  if (!fails_with(ENOSYS, ::syscall(SYS_clone3, nullptr, 0))) return 3;
  if (!fails_with(ENOSYS, ::syscall(SYS_userfaultfd, 1))) return 4;
  if (!fails_with(ENOSYS, ::syscall(SYS_io_uring_setup, 1, nullptr))) return 5;
  if (!fails_with(EPERM, ::syscall(SYS_unshare, 0))) return 6;
  if (!fails_with(EPERM, ::syscall(SYS_mount, nullptr, nullptr, nullptr, 0, nullptr))) return 7;
  if (!fails_with(EPERM, ::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0))) return 8;
  if (!fails_with(EPERM, ::ioctl(0, TIOCSTI, "x"))) return 9;
  if (!fails_with(EPERM, ::syscall(SYS_ioctl, 0, 0xffffffff00000000ull | TIOCSTI, "x"))) return 10;
  int fds[2];
  if (::pipe(fds) != 0) return 11;
  int readable = 0;
  if (::ioctl(fds[0], FIONREAD, &readable) != 0) return 12;
  // Threads and children are made through clone, glibc's answer to ENOSYS.
  pthread_t thread;
  if (::pthread_create(
          &thread, nullptr, [](void*) -> void* { return nullptr; }, nullptr) != 0)
    return 13;
  if (::pthread_join(thread, nullptr) != 0) return 14;
  // Nobody listens here.
  if (!fails_with(ENOSYS, ::rename("/nowhere/a", "/nowhere/b"))) return 16;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child || status != 0) return 15;
  return 0;
}

}  // namespace

TEST_CASE("every call number gets the answer of its list, all others pass") {
  for (int number = 0; number < 1024; ++number) {
    CAPTURE(number);
    std::uint32_t expected = SECCOMP_RET_ALLOW;
    if (lists(filter::kNoSuchCall, number)) expected = kEnosys;
    if (lists(filter::kNotPermitted, number)) expected = kEperm;
    if (lists(filter::kTracerOnly, number)) expected = SECCOMP_RET_TRACE;
    if (lists(filter::kNotified, number)) expected = SECCOMP_RET_USER_NOTIF;
    REQUIRE(answer(number) == expected);
  }
}

TEST_CASE("without a listener renames pass, and every other call gets the same answer") {
  for (int number = 0; number < 1024; ++number) {
    CAPTURE(number);
    seccomp_data data{};
    data.nr = number;
    data.arch = AUDIT_ARCH_X86_64;
    const std::uint32_t expected = lists(filter::kNotified, number) ? SECCOMP_RET_ALLOW : interpret(data);
    REQUIRE(interpret(data, filter::kProgramWithoutListener) == expected);
  }
}

TEST_CASE("what programs need every day passes") {
  for (const int number :
       {SYS_read, SYS_openat, SYS_mmap, SYS_execve, SYS_vfork, SYS_fork, SYS_socket, SYS_futex, SYS_ptrace, SYS_seccomp,
        SYS_prctl, SYS_epoll_pwait2, SYS_inotify_init1, SYS_memfd_create, SYS_setsid}) {
    CAPTURE(number);
    CHECK(answer(number) == SECCOMP_RET_ALLOW);
  }
}

TEST_CASE("calls of other architectures are unknown") {
  seccomp_data data{};
  data.nr = SYS_read;
  data.arch = AUDIT_ARCH_I386;
  CHECK(interpret(data) == kEnosys);
  CHECK(answer(0x40000000) == kEnosys);
  CHECK(answer(0x40000000 + SYS_read) == kEnosys);
  CHECK(answer(-1) == kEnosys);
}

TEST_CASE("clone makes no namespaces, and threads that share everything") {
  CHECK(answer(SYS_clone, SIGCHLD) == SECCOMP_RET_ALLOW);
  CHECK(answer(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD) == SECCOMP_RET_ALLOW);
  constexpr std::uint64_t kThread = CLONE_THREAD | CLONE_VM | CLONE_SIGHAND;
  CHECK(answer(SYS_clone, kThread | CLONE_FS | CLONE_FILES) == SECCOMP_RET_ALLOW);
  CHECK(answer(SYS_clone, kThread | CLONE_FS) == kEperm);
  CHECK(answer(SYS_clone, kThread | CLONE_FILES) == kEperm);
  CHECK(answer(SYS_clone, kThread) == kEperm);
  for (const std::uint64_t flag :
       {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP}) {
    CHECK(answer(SYS_clone, flag | SIGCHLD) == kEperm);
    CHECK(answer(SYS_clone, flag | kThread | CLONE_FS | CLONE_FILES) == kEperm);
  }
}

TEST_CASE("a process shares neither descriptor table nor, beyond vfork, memory") {
  CHECK(answer(SYS_clone, CLONE_FILES | SIGCHLD) == kEperm);
  CHECK(answer(SYS_clone, CLONE_VM | SIGCHLD) == kEperm);
  CHECK(answer(SYS_clone, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD) == kEperm);
  CHECK(answer(SYS_clone, CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD) == SECCOMP_RET_ALLOW);
  CHECK(answer(SYS_vfork) == SECCOMP_RET_ALLOW);
}

TEST_CASE("close_range closes and does not split the table") {
  seccomp_data data{};
  data.nr = SYS_close_range;
  data.arch = AUDIT_ARCH_X86_64;
  CHECK(interpret(data) == SECCOMP_RET_ALLOW);
  data.args[2] = 4;  // CLOSE_RANGE_CLOEXEC
  CHECK(interpret(data) == SECCOMP_RET_ALLOW);
  data.args[2] = filter::kCloseRangeUnshare;
  CHECK(interpret(data) == kEperm);
  data.args[2] = filter::kCloseRangeUnshare | 4;
  CHECK(interpret(data) == kEperm);
}

TEST_CASE("nothing types into a terminal, whatever the upper half of the request says") {
  for (const std::uint64_t request : {filter::kTiocsti, filter::kTioclinux}) {
    CHECK(answer(SYS_ioctl, 0, request) == kEperm);
    CHECK(answer(SYS_ioctl, 0, request | 0xdead'0000'0000'0000) == kEperm);
    CHECK(answer(SYS_ioctl, request, TIOCGWINSZ) == SECCOMP_RET_ALLOW);
  }
}

TEST_CASE("the kernel takes the program and answers as it says") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(check_under_filter());
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace deltabox::test

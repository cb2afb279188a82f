#include "parasite/session.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "deltacr/address_space.h"
#include "expect.h"
#include "guest.h"
#include "sys/processes.h"
#include "tracee/freezer.h"
#include "tracee/proc_files.h"

namespace deltabox::test {

namespace {

using parasite::Call;
using parasite::make_call;
using parasite::Session;
using parasite::Site;

constexpr RemoteAddress kAddress{0x3000'0000'0000};

Site site_of(const Guest& guest) {
  const auto mappings = must(list_mappings(guest.proc_fd(), guest.pid(), nullptr));
  const auto vdso =
      std::find_if(mappings->begin(), mappings->end(), [](const Mapping& mapping) { return mapping.name == "[vdso]"; });
  REQUIRE(vdso != mappings->end());
  Site site;
  site.vdso_syscall = RemoteAddress{vdso->range.start + must(parasite::vdso_syscall_offset())};
  return site;
}

// A frozen guest with an installed parasite.
struct Frozen {
  Frozen() : freezer(guest.proc_fd(), guest.root()), freeze(freeze_patiently(freezer)), site(site_of(guest)) {
    Session session = must(Session::begin(guest.pid()));
    must(session.install(site, kAddress));
    must(session.finish());
  }
  Guest guest;
  Freezer freezer;
  Freeze freeze;
  Site site;
};

}  // namespace

TEST_CASE("a batch runs in order as the frozen thread, and each call gets its own result") {
  Frozen frozen;
  Session session = must(Session::begin(frozen.guest.pid()));
  const std::uint64_t buffer = frozen.site.mapping.value + parasite::kBufferOffset;
  Call calls[] = {
      make_call(SYS_getpid), make_call(SYS_getppid), make_call(SYS_close, 1000), make_call(SYS_getcwd, buffer, 4096),
      make_call(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, static_cast<std::uint64_t>(-1), 0)};
  must(session.run(frozen.site, calls));
  CHECK(calls[0].result == frozen.guest.pid().value);
  CHECK(calls[1].result == frozen.guest.root().value);
  CHECK(calls[2].result == -EBADF);
  char expected[4096] = {};
  REQUIRE(::getcwd(expected, sizeof expected) != nullptr);
  REQUIRE(calls[3].result == static_cast<std::int64_t>(std::strlen(expected)) + 1);
  char cwd[4096] = {};
  must(session.read_buffer(frozen.site, 0, cwd, static_cast<std::size_t>(calls[3].result)));
  CHECK(std::string(cwd) == expected);
  CHECK(calls[4].result > 0);
}

TEST_CASE("registers and signal mask are as they were after a session, run or not") {
  Frozen frozen;
  const HostTid tid = frozen.guest.pid();
  const ptrace::Registers registers = must(ptrace::registers(tid));
  const ptrace::ExtendedState extended = must(ptrace::extended_state(tid));
  const ptrace::SignalMask mask = must(ptrace::signal_mask(tid));
  for (int batch = 0; batch < 3; ++batch) {
    Session session = must(Session::begin(tid));
    std::vector<Call> calls(static_cast<std::size_t>(batch), make_call(SYS_getpid));
    must(session.run(frozen.site, calls));
    must(session.finish());
    const ptrace::Registers after = must(ptrace::registers(tid));
    CHECK(std::memcmp(&after, &registers, sizeof after) == 0);
    CHECK(must(ptrace::signal_mask(tid)) == mask);
    CHECK(must(ptrace::extended_state(tid)) == extended);
  }
  frozen.freeze.thaw();
  CHECK(frozen.guest.answers());
}

TEST_CASE("a session that is dropped finishes") {
  Frozen frozen;
  const ptrace::Registers registers = must(ptrace::registers(frozen.guest.pid()));
  {
    Session session = must(Session::begin(frozen.guest.pid()));
    Session moved = std::move(session);
    Call call = make_call(SYS_getpid);
    must(moved.run(frozen.site, {&call, 1}));
  }
  const ptrace::Registers after = must(ptrace::registers(frozen.guest.pid()));
  CHECK(std::memcmp(&after, &registers, sizeof after) == 0);
}

TEST_CASE("the largest batch runs and a larger one is refused") {
  Frozen frozen;
  Session session = must(Session::begin(frozen.guest.pid()));
  std::vector<Call> calls(parasite::kMaxCalls, make_call(SYS_getpid));
  must(session.run(frozen.site, calls));
  for (const Call& call : calls) REQUIRE(call.result == frozen.guest.pid().value);
  calls.push_back(make_call(SYS_getpid));
  CHECK_FALSE(session.run(frozen.site, calls).ok());
}

TEST_CASE("runs of several threads go on side by side, each with slots of its own") {
  Guest guest;
  const HostTid other = guest.start_thread(Kind::kSpin, 0);
  Freezer freezer(guest.proc_fd(), guest.root());
  Freeze freeze = freeze_patiently(freezer);
  Site site = site_of(guest);
  Session first = must(Session::begin(guest.pid()));
  must(first.install(site, kAddress));
  Session second = must(Session::begin(other));
  Call of_first[] = {make_call(SYS_gettid), make_call(SYS_close, 1000)};
  Call of_second[] = {make_call(SYS_close, 1001), make_call(SYS_gettid)};
  for (int round = 0; round < 20; ++round) {
    must(first.start(site, of_first));
    must(second.start(site, of_second, 2));
    CHECK_FALSE(first.run(site, of_first).ok());  // one at a time
    must(second.collect(site, of_second, 2));
    must(first.collect(site, of_first));
    REQUIRE(of_first[0].result == guest.pid().value);
    REQUIRE(of_second[1].result == other.value);
    REQUIRE(of_second[0].result == -EBADF);
  }
  Call too_far = make_call(SYS_gettid);
  CHECK_FALSE(first.start(site, {&too_far, 1}, parasite::kMaxCalls).ok());
  must(second.finish());
  must(first.finish());
}

TEST_CASE("a run that nobody collects ends with its session") {
  Frozen frozen;
  const ptrace::Registers before = must(ptrace::registers(frozen.guest.pid()));
  {
    Session session = must(Session::begin(frozen.guest.pid()));
    const Call call = make_call(SYS_getpid);
    must(session.start(frozen.site, {&call, 1}));
  }
  const ptrace::Registers after = must(ptrace::registers(frozen.guest.pid()));
  CHECK(after.rip == before.rip);
  CHECK(after.rax == before.rax);
  frozen.freeze.thaw();
  CHECK(frozen.guest.answers());
}

TEST_CASE("the buffer is bounded") {
  Frozen frozen;
  Session session = must(Session::begin(frozen.guest.pid()));
  char data[16] = "there and back";
  must(session.write_buffer(frozen.site, parasite::kBufferBytes - sizeof data, data, sizeof data));
  char back[16] = {};
  must(session.read_buffer(frozen.site, parasite::kBufferBytes - sizeof back, back, sizeof back));
  CHECK(std::string(back) == data);
  CHECK_FALSE(session.write_buffer(frozen.site, parasite::kBufferBytes - 8, data, sizeof data).ok());
  CHECK_FALSE(session.read_buffer(frozen.site, parasite::kBufferBytes, back, 1).ok());
}

TEST_CASE("a call that sleeps is interrupted after a while, and the calls after it run") {
  Frozen frozen;
  Session session = must(Session::begin(frozen.guest.pid()));
  const std::uint64_t buffer = frozen.site.mapping.value + parasite::kBufferOffset;
  Call pipe[] = {make_call(SYS_pipe2, buffer, 0)};
  must(session.run(frozen.site, pipe));
  REQUIRE(pipe[0].result == 0);
  std::int32_t fds[2];
  must(session.read_buffer(frozen.site, 0, fds, sizeof fds));
  Call calls[] = {make_call(SYS_read, static_cast<std::uint64_t>(fds[0]), buffer, 1), make_call(SYS_getpid)};
  must(session.run(frozen.site, calls));
  CHECK(calls[0].result == -EINTR);
  CHECK(calls[1].result == frozen.guest.pid().value);
  CHECK(must(session.single_call(frozen.site.vdso_syscall,
                                 make_call(SYS_read, static_cast<std::uint64_t>(fds[0]), buffer, 1))) == -EINTR);
  must(session.finish());
  frozen.freeze.thaw();
  CHECK(frozen.guest.answers());
}

TEST_CASE("signals wait until the session is over") {
  Frozen frozen;
  {
    Session session = must(Session::begin(frozen.guest.pid()));
    ::kill(frozen.guest.pid().value, SIGUSR1);
    for (int run = 0; run < 10; ++run) {
      Call call = make_call(SYS_getpid);
      must(session.run(frozen.site, {&call, 1}));
      REQUIRE(call.result == frozen.guest.pid().value);
    }
    CHECK(frozen.guest.counter(Guest::kSignalCounter) == 0);
  }
  frozen.freeze.thaw();
  CHECK(frozen.guest.answers());
  CHECK(frozen.guest.counter(Guest::kSignalCounter) == 1);
}

TEST_CASE("a place that is taken is not taken over") {
  Frozen frozen;
  Session session = must(Session::begin(frozen.guest.pid()));
  Site second = frozen.site;
  CHECK(must_fail(session.install(second, kAddress)).os_errno == EEXIST);
}

TEST_CASE("what the tracee did to the parasite's memory does not matter, and does not go unnoticed when it moved") {
  Frozen frozen;
  Session session = must(Session::begin(frozen.guest.pid()));
  const std::string garbage(parasite::kMappingBytes, '\xcc');
  must(sys::write_remote(frozen.guest.pid(), frozen.site.mapping, garbage.data(), garbage.size()));
  Call call = make_call(SYS_getpid);
  must(session.run(frozen.site, {&call, 1}));
  CHECK(call.result == frozen.guest.pid().value);
  Call unmap = make_call(SYS_munmap, frozen.site.mapping.value, parasite::kMappingBytes);
  const std::int64_t unmapped = must(session.single_call(frozen.site.vdso_syscall, unmap));
  CHECK(unmapped == 0);
  CHECK_FALSE(session.run(frozen.site, {&call, 1}).ok());
}

TEST_CASE("a thread in nanosleep sleeps on as if nothing had happened") {
  Guest guest;
  const HostTid sleeper = guest.start_thread(Kind::kSleep, 0);
  Freezer freezer(guest.proc_fd(), guest.root());
  Site site;
  for (int round = 0; round < 50; ++round) {
    Freeze freeze = freeze_patiently(freezer);
    Session session = must(Session::begin(sleeper));
    if (round == 0) {
      site = site_of(guest);
      must(session.install(site, kAddress));
    }
    Call call = make_call(SYS_gettid);
    must(session.run(site, {&call, 1}));
    REQUIRE(call.result == sleeper.value);
    must(session.finish());
  }
  const std::uint64_t before = guest.counter(0);
  ::usleep(30'000);
  CHECK(guest.counter(0) > before);
  CHECK(guest.answers());
}

TEST_CASE("a thread can be made to leave, and its process lives on") {
  Guest guest;
  const HostTid thread = guest.start_thread(Kind::kSpin, 0);
  Freezer freezer(guest.proc_fd(), guest.root());
  {
    Freeze freeze = freeze_patiently(freezer);
    Site site = site_of(guest);
    Session session = must(Session::begin(thread));
    must(session.install(site, kAddress));
    must(session.exit_thread(site));
    freeze.forget_thread(guest.pid(), thread);
  }
  CHECK(guest.answers());
  CHECK(must(threads_of(guest.proc_fd(), guest.pid())).size() == 1);
}

TEST_CASE("a child does not inherit the parasite") {
  Frozen frozen;
  frozen.freeze.thaw();
  const HostTid child = frozen.guest.start_child(Kind::kSleep, 0);
  const auto mappings = must(list_mappings(frozen.guest.proc_fd(), child, nullptr));
  CHECK(find_mapping(*mappings, kAddress.value) == nullptr);
  const auto parents = must(list_mappings(frozen.guest.proc_fd(), frozen.guest.pid(), nullptr));
  CHECK(find_mapping(*parents, kAddress.value) != nullptr);
}

TEST_CASE("a tracee that dies inside a session is an outcome") {
  Frozen frozen;
  Session session = must(Session::begin(frozen.guest.pid()));
  ::kill(frozen.guest.pid().value, SIGKILL);
  ::usleep(3'000);
  Call call = make_call(SYS_getpid);
  CHECK(must_fail(session.run(frozen.site, {&call, 1})).code == Code::kTraceeGone);
}

}  // namespace deltabox::test

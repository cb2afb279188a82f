#include "tracee/freezer.h"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>

#include "expect.h"
#include "guest.h"
#include "tracee/proc_files.h"
#include "tracee/ptrace.h"

namespace deltabox::test {

namespace {

constexpr useconds_t kMoment = 3'000;  // long enough for a spinning thread to count
constexpr useconds_t kTick = 1'000;

std::array<std::uint64_t, 16> counts(const Guest& guest) {
  std::array<std::uint64_t, 16> values{};
  for (std::size_t index = 0; index < values.size(); ++index) values[index] = guest.counter(static_cast<int>(index));
  return values;
}

const FrozenProcess* find(Freeze& freeze, HostTid pid) {
  for (const FrozenProcess& process : freeze.processes()) {
    if (process.pid == pid) return &process;
  }
  return nullptr;
}

// Waits until the state is one of `states`, a second at most.
char wait_for_state(const Guest& guest, HostTid tid, const std::string& states) {
  char state = '?';
  for (int tick = 0; tick < 1000; ++tick) {
    state = task_state(guest.proc_fd(), tid, tid);
    if (states.find(state) != std::string::npos) break;
    ::usleep(kTick);
  }
  return state;
}

// A killed process dies thread by thread.
void wait_until_dead(const Guest& guest, HostTid pid) {
  const auto lives = [&] {
    const Result<std::vector<HostTid>> threads = threads_of(guest.proc_fd(), pid);
    if (!threads.ok()) return false;
    return std::any_of(threads.value().begin(), threads.value().end(), [&](HostTid tid) {
      const char state = task_state(guest.proc_fd(), pid, tid);
      return state != 'Z' && state != 'X';
    });
  };
  for (int tick = 0; tick < 1000 && lives(); ++tick) ::usleep(kTick);
}

}  // namespace

TEST_CASE("a freeze holds every thread of every process, parents first and leaders first") {
  Guest guest;
  const HostTid spinning = guest.start_thread(Kind::kSpin, 0);
  const HostTid sleeping = guest.start_thread(Kind::kSleep, 1);
  const HostTid child = guest.start_child(Kind::kSpin, 2, 3);
  Freezer freezer(guest.proc_fd(), guest.root());
  {
    Freeze freeze = freeze_patiently(freezer);
    REQUIRE(freeze.processes().size() == 2);
    CHECK(freeze.processes().front().pid == guest.pid());
    CHECK(freeze.processes().front().parent == guest.root());
    CHECK(freeze.processes().back().pid == child);
    CHECK(freeze.processes().back().parent == guest.pid());
    CHECK(freeze.processes().back().threads.size() == 4);
    const std::vector<FrozenThread>& threads = freeze.processes().front().threads;
    REQUIRE(threads.size() == 3);
    CHECK(threads[0].tid == guest.pid());
    for (const HostTid tid : {spinning, sleeping}) {
      CHECK(std::any_of(threads.begin(), threads.end(), [&](const FrozenThread& thread) { return thread.tid == tid; }));
    }
    for (const FrozenProcess& process : freeze.processes()) {
      CHECK(process.threads.front().tid == process.pid);
      for (const FrozenThread& thread : process.threads) {
        CHECK(thread.stopped);
        CHECK_FALSE(thread.group_stopped);
        CHECK(task_state(guest.proc_fd(), process.pid, thread.tid) == 't');
      }
    }
    const auto before = counts(guest);
    ::usleep(kMoment);
    CHECK(counts(guest) == before);
  }
  const auto thawed = counts(guest);
  for (std::size_t index = 0; index <= 5; ++index) {
    CAPTURE(index);
    // On a busy machine each of them waits for its turn.
    for (int tries = 0; tries < 500 && counts(guest)[index] == thawed[index]; ++tries) ::usleep(10 * kMoment);
    CHECK(counts(guest)[index] > thawed[index]);
  }
  CHECK(must(task_status(guest.proc_fd(), guest.pid())).tracer == HostTid{0});
  CHECK(guest.answers());
}

TEST_CASE("the root itself is not frozen, and nothing to freeze is no error") {
  Guest guest;
  Freezer freezer(guest.proc_fd(), guest.pid());  // the guest has no children
  Freeze freeze = freeze_patiently(freezer);
  CHECK(freeze.processes().empty());
  CHECK(guest.answers());
}

TEST_CASE("a freeze reaches tasks that are being born, again and again") {
  Guest guest;
  guest.start_thread(Kind::kChurn, 0);
  guest.start_child(Kind::kSleep, 1, 2);
  guest.churn(true);
  Freezer freezer(guest.proc_fd(), guest.root());
  for (int round = 0; round < 100; ++round) {
    Freeze freeze = freeze_patiently(freezer);
    for (const HostTid pid : descendants_of(guest.proc_fd(), guest.root())) {
      for (const HostTid tid : must(threads_of(guest.proc_fd(), pid))) {
        const char state = task_state(guest.proc_fd(), pid, tid);
        CAPTURE(state);
        REQUIRE((state == 't' || state == 'Z' || state == 'X'));
      }
    }
    freeze.thaw();
    if (round % 10 == 0) ::usleep(kTick);
  }
  const std::uint64_t churned = guest.counter(0);
  ::usleep(50 * kMoment);
  CHECK(guest.counter(0) > churned);
  CHECK(guest.answers());
}

TEST_CASE("a later freeze holds what was born since, and nothing that ended, parents first") {
  Guest guest;
  const HostTid ended = guest.start_child(Kind::kSpin, 0, 1);
  Freezer freezer(guest.proc_fd(), guest.root());
  { Freeze freeze = freeze_patiently(freezer); }
  ::kill(ended.value, SIGKILL);
  REQUIRE(guest.reaps(ended));
  const HostTid thread = guest.start_thread(Kind::kSpin, 2);
  const HostTid born = guest.start_child(Kind::kSleep, 3, 2);
  for (int round = 0; round < 2; ++round) {
    Freeze freeze = freeze_patiently(freezer);
    REQUIRE(freeze.processes().size() == 2);
    CHECK(freeze.processes().front().pid == guest.pid());
    CHECK(freeze.processes().back().pid == born);
    REQUIRE(freeze.processes().front().threads.size() == 2);
    CHECK(freeze.processes().front().threads[1].tid == thread);
    CHECK(freeze.processes().back().threads.size() == 3);
    const auto before = counts(guest);
    ::usleep(kMoment);
    CHECK(counts(guest) == before);
  }
  CHECK(guest.answers());
}

TEST_CASE("a stopped process is frozen as stopped and stays stopped") {
  Guest guest;
  const HostTid child = guest.start_child(Kind::kSpin, 0, 1);
  ::kill(child.value, SIGSTOP);
  REQUIRE(wait_for_state(guest, child, "T") == 'T');
  Freezer freezer(guest.proc_fd(), guest.root());
  {
    Freeze freeze = freeze_patiently(freezer);
    const FrozenProcess* process = find(freeze, child);
    REQUIRE(process != nullptr);
    for (const FrozenThread& thread : process->threads) CHECK(thread.group_stopped);
    CHECK_FALSE(find(freeze, guest.pid())->threads.front().group_stopped);
  }
  CHECK(wait_for_state(guest, child, "T") == 'T');
  const std::uint64_t before = guest.counter(0);
  ::usleep(kMoment);
  CHECK(guest.counter(0) == before);
  ::kill(child.value, SIGCONT);
  CHECK(wait_for_state(guest, child, "R") == 'R');
}

TEST_CASE("no signal is lost between freezes") {
  Guest guest;
  Freezer freezer(guest.proc_fd(), guest.root());
  constexpr std::uint64_t kSignals = 200;
  for (std::uint64_t sent = 1; sent <= kSignals; ++sent) {
    ::kill(guest.pid().value, SIGUSR1);
    freeze_patiently(freezer).thaw();
    // A signal that is still pending would absorb the next one.
    for (int tick = 0; tick < 1000 && guest.counter(Guest::kSignalCounter) < sent; ++tick) ::usleep(100);
    REQUIRE(guest.counter(Guest::kSignalCounter) == sent);
  }
}

TEST_CASE("a signal sent while frozen arrives after the thaw") {
  Guest guest;
  Freezer freezer(guest.proc_fd(), guest.root());
  Freeze freeze = freeze_patiently(freezer);
  ::kill(guest.pid().value, SIGUSR1);
  ::usleep(kMoment);
  CHECK(guest.counter(Guest::kSignalCounter) == 0);
  CHECK(must(ptrace::pending_signals(guest.pid(), true)).size() == 1);
  freeze.thaw();
  CHECK(guest.answers());
  CHECK(guest.counter(Guest::kSignalCounter) == 1);
}

TEST_CASE("zombies are listed with their parents and not frozen") {
  Guest guest;
  const HostTid zombie = guest.leave_zombie();
  Freezer freezer(guest.proc_fd(), guest.root());
  Freeze freeze = freeze_patiently(freezer);
  CHECK(freeze.processes().size() == 1);
  REQUIRE(freeze.zombies().size() == 1);
  CHECK(freeze.zombies()[0].pid == zombie);
  CHECK(freeze.zombies()[0].parent_inside == must(task_status(guest.proc_fd(), guest.pid())).inside);
}

TEST_CASE("a parent in vfork is frozen once its child has let it go") {
  Guest guest;
  Freezer freezer(guest.proc_fd(), guest.root());
  guest.vfork_for(25);
  ::usleep(5 * kTick);
  Freeze freeze = freeze_patiently(freezer);
  CHECK(task_state(guest.proc_fd(), guest.pid(), guest.pid()) == 't');
  freeze.thaw();
  CHECK(guest.answers());
  CHECK_FALSE(freezer.has_late_threads());
}

TEST_CASE("a parent that stays in vfork makes the freeze fail in time, and runs on later") {
  Guest guest;
  Freezer freezer(guest.proc_fd(), guest.root());
  guest.vfork_for(60'000);
  ::usleep(5 * kTick);
  CHECK(must_fail(freezer.freeze_all()).code == Code::kBusy);
  CHECK(freezer.has_late_threads());
  for (const HostTid child : must(children_of(guest.proc_fd(), guest.pid(), guest.pid()))) ::kill(child.value, SIGKILL);
  for (int tick = 0; tick < 2000 && freezer.has_late_threads(); ++tick) {
    freezer.release_late_threads();
    ::usleep(kTick);
  }
  CHECK_FALSE(freezer.has_late_threads());
  CHECK(guest.answers());
  freeze_patiently(freezer).thaw();
  CHECK(guest.answers());
}

TEST_CASE("what only lacks a processor is waited for") {
  // Beside two others of the weight of 70 of it on one processor, it gets one every half second.
  constexpr int kRounds = 3;
  cpu_set_t first{};
  CPU_SET(0, &first);
  Guest others;
  Guest guest;
  const HostTid starving = guest.start_thread(Kind::kSpin, 0);
  for (const HostTid tid : {others.start_thread(Kind::kSpin, 0), others.start_thread(Kind::kSpin, 1), starving}) {
    REQUIRE(::sched_setaffinity(tid.value, sizeof first, &first) == 0);
  }
  REQUIRE(::setpriority(PRIO_PROCESS, static_cast<id_t>(starving.value), 19) == 0);
  Freezer freezer(guest.proc_fd(), guest.root());
  for (int round = 0; round < kRounds; ++round) {
    const Result<Freeze> freeze = freezer.freeze_all();
    REQUIRE_MESSAGE(freeze.ok(), freeze.error().message);
    CHECK(freeze.value().attempts() <= 2);  // six, or none that succeeds, without the patience
  }
}

TEST_CASE("processes of many threads that are just dying do not hold a freeze up") {
  constexpr int kRounds = 60;
  Guest guest;
  Freezer freezer(guest.proc_fd(), guest.root());
  for (int round = 0; round < kRounds; ++round) {
    const HostTid child = guest.start_child(Kind::kSpin, 0, 15);
    // From before the first of them is attached to until after the last has stopped.
    const std::jthread killer([child, round] {
      ::usleep(static_cast<useconds_t>(round) * 10);
      ::kill(child.value, SIGKILL);
    });
    const Result<Freeze> freeze = freezer.freeze_all();
    REQUIRE_MESSAGE(freeze.ok(), freeze.error().message);
  }
}

TEST_CASE("a process killed while frozen does not disturb the thaw of the others") {
  Guest guest;
  const HostTid child = guest.start_child(Kind::kSpin, 0, 2);
  Freezer freezer(guest.proc_fd(), guest.root());
  {
    Freeze freeze = freeze_patiently(freezer);
    ::kill(child.value, SIGKILL);
    ::usleep(kMoment);
  }
  CHECK(guest.answers());
  wait_until_dead(guest, child);
  Freeze next = freeze_patiently(freezer);
  CHECK(find(next, child) == nullptr);
  CHECK(find(next, guest.pid()) != nullptr);
}

// A tracer that neither detaches nor waits keeps its dead tracees from their parents.
TEST_CASE("a process killed while frozen is its parent's to reap after the thaw") {
  Guest guest;
  const HostTid child = guest.start_child(Kind::kSpin, 0, 1);
  Freezer freezer(guest.proc_fd(), guest.root());
  {
    Freeze freeze = freeze_patiently(freezer);
    ::kill(child.value, SIGKILL);
    ::usleep(kMoment);
  }
  wait_until_dead(guest, child);
  freezer.release_late_threads();
  CHECK(guest.reaps(child));
}

TEST_CASE("forgotten tasks are not thawed twice") {
  Guest guest;
  const HostTid child = guest.start_child(Kind::kSpin, 0, 1);
  Freezer freezer(guest.proc_fd(), guest.root());
  Freeze freeze = freeze_patiently(freezer);
  const HostTid thread = find(freeze, child)->threads[1].tid;
  freeze.forget_thread(child, thread);
  REQUIRE(find(freeze, child)->threads.size() == 1);
  freeze.forget_process(child);
  CHECK(find(freeze, child) == nullptr);
  must(ptrace::detach(thread));
  must(ptrace::detach(child));
}

}  // namespace deltabox::test

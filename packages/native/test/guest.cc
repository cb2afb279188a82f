#include "guest.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "expect.h"
#include "sys/files.h"
#include "tracee/proc_files.h"

namespace deltabox::test {

namespace {

enum class Op : std::uint64_t {
  kPing,
  kMap,
  kMapFile,
  kUnmap,
  kMove,
  kWrite,
  kRead,
  kDiscard,
  kProtect,
  kBreak,
  kFill,
  kThread,
  kChild,
  kZombie,
  kReap,
  kVfork,
  kChurn,
};

constexpr std::size_t kCounterBytes = 4096;
constexpr int kAnswerTimeoutMs = 20'000;

}  // namespace

struct Guest::Request {
  Op op = Op::kPing;
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  std::uint64_t c = 0;
  std::uint64_t d = 0;
  char path[96] = {};
};

namespace {

std::atomic<std::uint64_t>* guest_counters = nullptr;
std::atomic<bool> churning = false;

void sleep_ms(std::uint64_t ms) {
  timespec left{static_cast<time_t>(ms / 1000), static_cast<long>(ms % 1000) * 1'000'000};
  while (::nanosleep(&left, &left) != 0) {
  }
}

struct Work {
  Kind kind;
  std::uint64_t counter;
  std::atomic<pid_t> tid = 0;
};

void* end_at_once(void*) { return nullptr; }

void churn_once() {
  const pid_t child = ::fork();
  if (child == 0) {
    pthread_t thread;
    if (::pthread_create(&thread, nullptr, end_at_once, nullptr) == 0) ::pthread_join(thread, nullptr);
    ::_exit(0);
  }
  pthread_t thread;
  if (::pthread_create(&thread, nullptr, end_at_once, nullptr) == 0) ::pthread_join(thread, nullptr);
  if (child > 0) ::waitpid(child, nullptr, 0);
}

[[noreturn]] void work(Kind kind, std::uint64_t counter) {
  for (;;) {
    if (kind == Kind::kSleep) sleep_ms(1);
    if (kind == Kind::kChurn) {
      if (!churning) {
        sleep_ms(1);
        continue;
      }
      churn_once();
    }
    guest_counters[counter].fetch_add(1, std::memory_order_relaxed);
  }
}

void* thread_main(void* argument) {
  auto* mine = static_cast<Work*>(argument);
  const Kind kind = mine->kind;
  const std::uint64_t counter = mine->counter;
  mine->tid = static_cast<pid_t>(::syscall(SYS_gettid));
  work(kind, counter);
}

// The number of the new thread, as the guest's pid namespace (the test's) has it.
std::int64_t start_worker(Kind kind, std::uint64_t counter) {
  Work mine{kind, counter};
  pthread_t thread;
  const int failed = ::pthread_create(&thread, nullptr, thread_main, &mine);
  if (failed != 0) return -failed;
  while (mine.tid == 0) ::sched_yield();
  return mine.tid;
}

std::int64_t start_family(Kind kind, std::uint64_t counter, std::uint64_t threads) {
  int ready[2];
  if (::pipe(ready) != 0) return -errno;
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (std::uint64_t index = 1; index <= threads; ++index) start_worker(kind, counter + index);
    if (::write(ready[1], "r", 1) != 1) ::_exit(1);
    work(kind, counter);
  }
  char byte;
  const bool started = child > 0 && ::read(ready[0], &byte, 1) == 1;
  ::close(ready[0]);
  ::close(ready[1]);
  return started ? child : -ECHILD;
}

std::int64_t result_of(long result) { return result < 0 ? -errno : result; }

std::int64_t map_file(const char* path, std::uint64_t size_bytes) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  void* mapped = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  ::close(fd);
  return mapped == MAP_FAILED ? -errno : reinterpret_cast<std::int64_t>(mapped);
}

void on_signal(int) { guest_counters[Guest::kSignalCounter].fetch_add(1, std::memory_order_relaxed); }

// Addresses come from the guest's own mmap, which the sanitizer's allocator knows nothing of.
__attribute__((no_sanitize("address", "undefined"))) void store_word(std::uint64_t address, std::uint64_t value) {
  *reinterpret_cast<volatile std::uint64_t*>(address) = value;
}
__attribute__((no_sanitize("address", "undefined"))) std::uint64_t load_word(std::uint64_t address) {
  return *reinterpret_cast<volatile std::uint64_t*>(address);
}

template <typename Request>
std::int64_t serve_memory(const Request& request) {
  auto* const at = reinterpret_cast<void*>(request.a);
  switch (request.op) {
    case Op::kMap: {
      const int flags = MAP_PRIVATE | MAP_ANONYMOUS | static_cast<int>(request.d) | (at != nullptr ? MAP_FIXED : 0);
      return result_of(::syscall(SYS_mmap, at, request.b, request.c, flags, -1, 0));
    }
    case Op::kMapFile:
      return map_file(request.path, request.b);
    case Op::kUnmap:
      return result_of(::syscall(SYS_munmap, at, request.b));
    case Op::kMove: {
      // To a place that is free for certain.
      const long target = ::syscall(SYS_mmap, nullptr, request.b, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (target < 0) return -errno;
      return result_of(::syscall(SYS_mremap, at, request.b, request.b, MREMAP_MAYMOVE | MREMAP_FIXED, target));
    }
    case Op::kWrite:
      store_word(request.a, request.b);
      return 0;
    case Op::kRead:
      return static_cast<std::int64_t>(load_word(request.a));
    case Op::kDiscard:
      return result_of(::syscall(SYS_madvise, at, request.b, MADV_DONTNEED));
    case Op::kProtect:
      return result_of(::syscall(SYS_mprotect, at, request.b, request.c));
    case Op::kBreak: {
      const long old = ::syscall(SYS_brk, 0);
      const long now = ::syscall(SYS_brk, old + static_cast<long>(request.a));
      return now == old + static_cast<long>(request.a) ? old : -ENOMEM;
    }
    default:
      return -ENOSYS;
  }
}

template <typename Request>
std::int64_t serve(const Request& request, int random_fd) {
  switch (request.op) {
    case Op::kPing:
      return 0;
    case Op::kFill:
      return result_of(::read(random_fd, reinterpret_cast<void*>(request.a), request.b));
    case Op::kThread:
      return start_worker(static_cast<Kind>(request.a), request.b);
    case Op::kChild:
      return start_family(static_cast<Kind>(request.a), request.b, request.c);
    case Op::kZombie: {
      const pid_t child = ::fork();
      if (child == 0) ::_exit(0);
      siginfo_t info{};
      if (child > 0) ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
      return child;
    }
    case Op::kReap:
      for (int tick = 0; tick < 1000; ++tick) {
        if (::waitpid(static_cast<pid_t>(request.a), nullptr, WNOHANG) != 0) return 1;
        sleep_ms(1);
      }
      return 0;
    case Op::kChurn:
      churning = request.a != 0;
      return 0;
    default:
      return serve_memory(request);
  }
}

template <typename Request>
[[noreturn]] void serve_forever(int requests, int answers) {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGUSR1, &action, nullptr);
  const int random_fd = ::open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  for (;;) {
    Request request;
    const ssize_t count = ::read(requests, &request, sizeof request);
    if (count != static_cast<ssize_t>(sizeof request)) ::_exit(0);
    const std::int64_t answer = request.op == Op::kVfork ? 0 : serve(request, random_fd);
    if (::write(answers, &answer, sizeof answer) != static_cast<ssize_t>(sizeof answer)) ::_exit(1);
    if (request.op != Op::kVfork) continue;
    const timespec time{static_cast<time_t>(request.a / 1000), static_cast<long>(request.a % 1000) * 1'000'000};
    const pid_t child = ::vfork();
    if (child == 0) {
      ::syscall(SYS_nanosleep, &time, nullptr);
      ::_exit(0);
    }
    if (child > 0) ::waitpid(child, nullptr, 0);
  }
}

}  // namespace

Guest::Guest() {
  void* memory = ::mmap(nullptr, kCounterBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  counters_ = static_cast<std::uint64_t*>(memory);
  guest_counters = static_cast<std::atomic<std::uint64_t>*>(memory);
  proc_ = must(sys::open_at(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY));
  auto [request_read, request_write] = must(sys::make_pipe(0));
  auto [answer_read, answer_write] = must(sys::make_pipe(0));
  auto [born_read, born_write] = must(sys::make_pipe(0));
  const pid_t root = ::fork();
  REQUIRE(root >= 0);
  if (root == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const pid_t guest = ::fork();
    if (guest == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      request_write.reset();
      answer_read.reset();
      serve_forever<Request>(request_read.get(), answer_write.get());
    }
    if (::write(born_write.get(), &guest, sizeof guest) != static_cast<ssize_t>(sizeof guest)) ::_exit(1);
    request_write.reset();
    for (;;) ::waitpid(-1, nullptr, 0) < 0 ? ::pause() : 0;
  }
  root_ = HostTid{root};
  pid_t guest = -1;
  REQUIRE(::read(born_read.get(), &guest, sizeof guest) == static_cast<ssize_t>(sizeof guest));
  pid_ = HostTid{guest};
  requests_ = std::move(request_write);
  answers_ = std::move(answer_read);
  REQUIRE(answers());  // its signal handler is in place
}

Guest::~Guest() {
  // Each round may find children born during the one before; a killed parent's last fork is one generation.
  for (int round = 0; round < 3; ++round) {
    for (const HostTid tid : descendants_of(proc_.get(), root_)) ::kill(tid.value, SIGKILL);
  }
  ::kill(root_.value, SIGKILL);
  ::waitpid(root_.value, nullptr, 0);
  ::munmap(counters_, kCounterBytes);
}

std::int64_t Guest::ask(const Request& request) {
  if (::write(requests_.get(), &request, sizeof request) != static_cast<ssize_t>(sizeof request)) return -EPIPE;
  pollfd waiting{answers_.get(), POLLIN, 0};
  int ready;
  do {
    ready = ::poll(&waiting, 1, kAnswerTimeoutMs);
  } while (ready < 0 && errno == EINTR);
  std::int64_t answer = -ETIMEDOUT;
  if (ready == 1 && ::read(answers_.get(), &answer, sizeof answer) != static_cast<ssize_t>(sizeof answer))
    return -EPIPE;
  return answer;
}

std::int64_t Guest::ask_or_fail(const char* what, const Request& request) {
  const std::int64_t answer = ask(request);
  // Errors are -1 … -4095, as in a register; words read may be anything else.
  if (answer < 0 && answer > -4096) {
    const std::string sentence = std::string(what) + ": " + std::strerror(static_cast<int>(-answer));
    FAIL("the guest's " << sentence);
  }
  return answer;
}

bool Guest::answers() { return ask({}) == 0; }

std::uint64_t Guest::map(std::uint64_t size_bytes, int protection, std::uint64_t address, int more_flags) {
  return static_cast<std::uint64_t>(ask_or_fail("mmap", {Op::kMap,
                                                         address,
                                                         size_bytes,
                                                         static_cast<std::uint64_t>(protection),
                                                         static_cast<std::uint64_t>(more_flags),
                                                         {}}));
}

std::uint64_t Guest::map_file(const std::string& path, std::uint64_t size_bytes) {
  Request request{Op::kMapFile, 0, size_bytes, 0, 0, {}};
  path.copy(request.path, sizeof request.path - 1);
  return static_cast<std::uint64_t>(ask_or_fail("mmap", request));
}

void Guest::unmap(std::uint64_t address, std::uint64_t size_bytes) {
  ask_or_fail("munmap", {Op::kUnmap, address, size_bytes, 0, 0, {}});
}

std::uint64_t Guest::move(std::uint64_t address, std::uint64_t size_bytes) {
  return static_cast<std::uint64_t>(ask_or_fail("mremap", {Op::kMove, address, size_bytes, 0, 0, {}}));
}

void Guest::write(std::uint64_t address, std::uint64_t value) {
  ask_or_fail("write", {Op::kWrite, address, value, 0, 0, {}});
}

std::uint64_t Guest::read(std::uint64_t address) {
  return static_cast<std::uint64_t>(ask({Op::kRead, address, 0, 0, 0, {}}));
}

void Guest::discard(std::uint64_t address, std::uint64_t size_bytes) {
  ask_or_fail("madvise", {Op::kDiscard, address, size_bytes, 0, 0, {}});
}

void Guest::protect(std::uint64_t address, std::uint64_t size_bytes, int protection) {
  ask_or_fail("mprotect", {Op::kProtect, address, size_bytes, static_cast<std::uint64_t>(protection), 0, {}});
}

std::uint64_t Guest::grow_break(std::uint64_t size_bytes) {
  return static_cast<std::uint64_t>(ask_or_fail("brk", {Op::kBreak, size_bytes, 0, 0, 0, {}}));
}

void Guest::fill_by_kernel(std::uint64_t address, std::uint64_t size_bytes) {
  ask_or_fail("read", {Op::kFill, address, size_bytes, 0, 0, {}});
}

HostTid Guest::start_thread(Kind kind, int counter) {
  return HostTid{static_cast<pid_t>(ask_or_fail(
      "thread", {Op::kThread, static_cast<std::uint64_t>(kind), static_cast<std::uint64_t>(counter), 0, 0, {}}))};
}

HostTid Guest::start_child(Kind kind, int counter, int threads) {
  return HostTid{static_cast<pid_t>(ask_or_fail("fork", {Op::kChild,
                                                         static_cast<std::uint64_t>(kind),
                                                         static_cast<std::uint64_t>(counter),
                                                         static_cast<std::uint64_t>(threads),
                                                         0,
                                                         {}}))};
}

HostTid Guest::leave_zombie() {
  return HostTid{static_cast<pid_t>(ask_or_fail("fork", {Op::kZombie, 0, 0, 0, 0, {}}))};
}

bool Guest::reaps(HostTid child) {
  return ask_or_fail("waitpid", {Op::kReap, static_cast<std::uint64_t>(child.value), 0, 0, 0, {}}) == 1;
}

void Guest::vfork_for(std::uint64_t ms) { ask_or_fail("vfork", {Op::kVfork, ms, 0, 0, 0, {}}); }

Freeze freeze_patiently(Freezer& freezer) {
  constexpr int kTries = 50;  // each of about 100 ms
  for (int attempt = 1;; ++attempt) {
    Result<Freeze> freeze = freezer.freeze_all();
    if (freeze.ok()) return freeze.release_value();
    if (freeze.error().code != Code::kBusy || attempt == kTries) FAIL(freeze.error().describe());
    freezer.release_late_threads();
  }
}

void Guest::churn(bool on) { ask_or_fail("churn", {Op::kChurn, on ? 1u : 0u, 0, 0, 0, {}}); }

}  // namespace deltabox::test

// Large deltas, read out of a copy of the process while it goes on (deltacr/parked_copy.h).
#include "deltacr/parked_copy.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "expect.h"
#include "parasite/session.h"
#include "tracked_guest.h"

namespace deltabox::test {

namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;
constexpr std::uint64_t kLargeBytes = 24u << 20;

// Copies are orphans, and the tests have no init to collect them.
class Reaper {
 public:
  Reaper() { REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0); }
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;
  ~Reaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 0); }
};

bool is_gone(HostTid pid) { return !std::filesystem::exists("/proc/" + std::to_string(pid.value)); }

std::string memory_of(const TrackedGuest& tracked, HostTid pid, std::uint64_t address, std::uint64_t size_bytes) {
  const UniqueFd memory = must(sys::open_at(tracked.guest.proc_fd(), std::to_string(pid.value) + "/mem", O_RDONLY));
  std::string bytes(size_bytes, '\0');
  REQUIRE(::pread(memory.get(), bytes.data(), size_bytes, static_cast<off_t>(address)) ==
          static_cast<ssize_t>(size_bytes));
  return bytes;
}

std::string stored_at(const TrackedGuest& tracked, std::uint64_t address, std::uint64_t size_bytes) {
  std::string bytes;
  for (std::uint64_t offset = 0; offset < size_bytes; offset += kPageSize) {
    const std::optional<PageId> page = tracked.live.pages.find((address + offset) >> kPageShift);
    REQUIRE(page.has_value());
    if (*page == kZeroPage) {
      bytes.append(kPageSize, '\0');
    } else {
      bytes.append(reinterpret_cast<const char*>(tracked.store.bytes(*page)), kPageSize);
    }
  }
  return bytes;
}

pid_t parent_of(HostTid pid) {
  std::ifstream stat("/proc/" + std::to_string(pid.value) + "/stat");
  std::string skipped;
  pid_t parent = 0;
  stat >> skipped >> skipped >> skipped >> parent;  // the name has no spaces
  return parent;
}

std::uint64_t parked_in(const MemoryCapture& memory, std::uint64_t address, std::uint64_t size_bytes) {
  return static_cast<std::uint64_t>(
      std::count_if(memory.parked_addresses.begin(), memory.parked_addresses.end(),
                    [&](std::uint64_t parked) { return parked >= address && parked < address + size_bytes; }));
}

std::size_t entries_of(const std::string& directory) {
  const std::filesystem::directory_iterator entries(directory);
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

MemoryCapture park(TrackedGuest& tracked) {
  parasite::Session session = must(parasite::Session::begin(tracked.guest.pid()));
  MemoryCapture memory = tracked.read_memory(&session);
  must(session.finish());
  return memory;
}

}  // namespace

TEST_CASE("a large delta is read from a copy while the process goes on and changes it") {
  const Reaper reaper;
  TrackedGuest tracked;
  const std::uint64_t large = tracked.guest.map(kLargeBytes, kReadWrite);
  // Beside the large one, and of the same rights, it could become a part of it.
  const std::uint64_t small = tracked.guest.map(40 * kPageSize, kReadWrite | PROT_EXEC);
  tracked.guest.fill_by_kernel(large, kLargeBytes);
  tracked.guest.fill_by_kernel(small, 40 * kPageSize);
  Freeze frozen = tracked.freeze();
  const std::string before = memory_of(tracked, tracked.guest.pid(), large, kLargeBytes);
  const std::string small_before = memory_of(tracked, tracked.guest.pid(), small, 40 * kPageSize);
  MemoryCapture memory = park(tracked);
  REQUIRE(memory.parked.has_value());
  CHECK(parked_in(memory, large, kLargeBytes) == kLargeBytes / kPageSize);
  CHECK(parked_in(memory, small, 40 * kPageSize) == 0);
  const HostTid copy = memory.parked->pid();
  frozen.thaw();

  const std::string proc = "/proc/" + std::to_string(copy.value);
  CHECK(entries_of(proc + "/fd") == 0);
  CHECK(parent_of(copy) == ::getpid());
  tracked.guest.fill_by_kernel(large, kLargeBytes / 2);
  tracked.guest.discard(large + kLargeBytes / 2, kLargeBytes / 4);
  tracked.guest.unmap(large + kLargeBytes * 3 / 4, kLargeBytes / 4);
  tracked.guest.fill_by_kernel(small, 40 * kPageSize);
  must(tracked.enter(std::move(memory)));
  CHECK(is_gone(copy));
  CHECK(stored_at(tracked, large, kLargeBytes) == before);
  CHECK(stored_at(tracked, small, 40 * kPageSize) == small_before);

  // What it did meanwhile is what the next look finds.
  const Freeze again = tracked.freeze();
  const std::string now = memory_of(tracked, tracked.guest.pid(), large, kLargeBytes / 2);
  CHECK(now != before.substr(0, kLargeBytes / 2));
  tracked.capture();
  CHECK(stored_at(tracked, large, kLargeBytes / 2) == now);
  CHECK_FALSE(tracked.live.pages.find((large + kLargeBytes * 3 / 4) >> kPageShift).has_value());
}

TEST_CASE("a small delta is copied at once") {
  const Reaper reaper;
  TrackedGuest tracked;
  {
    const Freeze frozen = tracked.freeze();  // the guest is a fork of this program, of whatever size it has
    must(tracked.enter(park(tracked)));
  }
  const std::uint64_t arena = tracked.guest.map(8u << 20, kReadWrite);
  tracked.guest.fill_by_kernel(arena, 8u << 20);
  const Freeze frozen = tracked.freeze();
  MemoryCapture memory = park(tracked);
  CHECK_FALSE(memory.parked.has_value());
  CHECK(memory.dirty_pages >= (8u << 20) / kPageSize);
  must(tracked.enter(std::move(memory)));
}

TEST_CASE("what a process keeps from its children is copied at once") {
  const Reaper reaper;
  TrackedGuest tracked;
  const std::uint64_t hidden = tracked.guest.map(kLargeBytes, kReadWrite);
  const std::uint64_t wiped = tracked.guest.map(kLargeBytes, kReadWrite);
  const std::uint64_t plain = tracked.guest.map(kLargeBytes, kReadWrite);
  for (const std::uint64_t address : {hidden, wiped, plain}) tracked.guest.fill_by_kernel(address, kLargeBytes);
  Freeze frozen = tracked.freeze();
  HostTid copy;
  {
    parasite::Session session = must(parasite::Session::begin(tracked.guest.pid()));
    parasite::Call advice[] = {parasite::make_call(SYS_madvise, hidden, kLargeBytes, MADV_DONTFORK),
                               parasite::make_call(SYS_madvise, wiped, kLargeBytes, MADV_WIPEONFORK)};
    must(session.run(tracked.live.site, advice));
    for (const parasite::Call& call : advice) REQUIRE(call.result == 0);
    MemoryCapture memory = tracked.read_memory(&session);
    must(session.finish());
    REQUIRE(memory.parked.has_value());
    copy = memory.parked->pid();
    CHECK(parked_in(memory, plain, kLargeBytes) == kLargeBytes / kPageSize);
    CHECK(parked_in(memory, hidden, kLargeBytes) == 0);
    CHECK(parked_in(memory, wiped, kLargeBytes) == 0);
    must(tracked.enter(std::move(memory)));
  }
  CHECK(is_gone(copy));
  for (const std::uint64_t address : {hidden, wiped, plain}) {
    CHECK(stored_at(tracked, address, kLargeBytes) == memory_of(tracked, tracked.guest.pid(), address, kLargeBytes));
  }
}

TEST_CASE("a copy that is killed takes nothing with it but this look") {
  const Reaper reaper;
  TrackedGuest tracked;
  const std::uint64_t large = tracked.guest.map(kLargeBytes, kReadWrite);
  tracked.guest.fill_by_kernel(large, kLargeBytes);
  Freeze frozen = tracked.freeze();
  MemoryCapture memory = park(tracked);
  REQUIRE(memory.parked.has_value());
  const HostTid copy = memory.parked->pid();
  REQUIRE(::kill(copy.value, SIGKILL) == 0);
  const Result<std::uint64_t> entered = tracked.enter(std::move(memory));
  CHECK_FALSE(entered.ok());
  CHECK(is_gone(copy));
  CHECK_FALSE(tracked.live.tracker.has_value());  // which a capture takes for a process that it sees for the first time
  CHECK(tracked.store.stored_bytes() == 0);
  frozen.thaw();
  CHECK(tracked.guest.answers());
}

}  // namespace deltabox::test

#include "deltacr/memory.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include "expect.h"
#include "parasite/session.h"
#include "random.h"
#include "reconcile/plan.h"
#include "tracee/interrupted_calls.h"
#include "tracked_guest.h"

namespace deltabox::test {

namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;
constexpr std::uint64_t kArenaPages = 600;
constexpr std::uint64_t kArenaBytes = kArenaPages * kPageSize;

// What the page map and its store say, as the independent reader would.
Snapshot stored_snapshot(const TrackedGuest& tracked) {
  Snapshot snapshot;
  tracked.live.pages.for_each(0, PageNumber{1} << 36, [&](PageNumber number, PageId contents) {
    if (contents == kZeroPage) return;
    snapshot.emplace(number, std::string(reinterpret_cast<const char*>(tracked.store.bytes(contents)), kPageSize));
  });
  return snapshot;
}

// Stored pages that no page map holds would never return.
std::uint64_t leaked_pages(const TrackedGuest& tracked) {
  std::uint64_t held = 0;
  tracked.live.pages.for_each(0, PageNumber{1} << 36,
                              [&](PageNumber, PageId contents) { held += contents == kZeroPage ? 0 : 1; });
  return tracked.store.stored_bytes() / kPageSize - held;
}

// Compares page by page, so that a failure names a page and not two dumps.
std::uint64_t count_differences(const Snapshot& first, const Snapshot& second) {
  std::uint64_t differences = 0;
  for (const auto& [number, contents] : first) {
    const auto other = second.find(number);
    if (other == second.end() || other->second != contents) ++differences;
  }
  for (const auto& [number, contents] : second) differences += first.contains(number) ? 0 : 1;
  return differences;
}

// The sanitizers' shadow is in the page map and beyond the independent reader.
Snapshot readable_part(Snapshot snapshot, const TrackedGuest& tracked) {
  const auto mappings = tracked.mappings(tracked.guest.pid());
  for (const Mapping& mapping : *mappings) {
    if (mapping.range.size_bytes() <= (256u << 20)) continue;
    snapshot.erase(snapshot.lower_bound(mapping.range.start >> kPageShift),
                   snapshot.lower_bound(mapping.range.end >> kPageShift));
  }
  return snapshot;
}

void change_at_random(TrackedGuest& tracked, std::uint64_t arena, Random& random) {
  for (int step = 0; step < 80; ++step) {
    const std::uint64_t index = random.below(kArenaPages - 20);
    const std::uint64_t address = arena + index * kPageSize;
    switch (random.below(6)) {
      case 0:
        tracked.guest.discard(address, (1 + random.below(20)) * kPageSize);
        break;
      case 1:
        tracked.guest.fill_by_kernel(address, kPageSize * (1 + random.below(3)));
        break;
      case 2:
        tracked.guest.write(address, 0);
        break;
      default:
        tracked.guest.write(address + 8 * random.below(512), random.below(1u << 30));
        break;
    }
  }
}

struct Saved {
  PageMap pages;
  std::shared_ptr<const MappingList> mappings;
  ptrace::Registers registers;
};

// Puts memory and registers of the frozen guest back; the mappings are those of `saved`.
void restore(TrackedGuest& tracked, const Saved& saved) {
  const PagePlan plan = plan_pages(tracked.live.pages, saved.pages, *saved.mappings, {});
  parasite::Session session = must(parasite::Session::begin(tracked.guest.pid()));
  std::vector<parasite::Call> drops;
  for (const AddressRange& range : plan.drops) {
    drops.push_back(parasite::make_call(SYS_madvise, range.start, range.size_bytes(), MADV_DONTNEED));
  }
  for (std::size_t first = 0; first < drops.size(); first += parasite::kMaxCalls) {
    const std::size_t count = std::min(drops.size() - first, parasite::kMaxCalls);
    must(session.run(tracked.live.site, {drops.data() + first, count}));
  }
  for (const parasite::Call& drop : drops) REQUIRE(drop.result == 0);
  session.replace_registers(registers_to_roll_back(saved.registers, false));
  must(session.finish());
  must(write_pages(tracked.guest.proc_fd(), tracked.guest.pid(), *saved.mappings, plan.writes, tracked.store));
}

}  // namespace

TEST_CASE("captured pages are what /proc/PID/mem says, capture after capture") {
  TrackedGuest tracked;
  Random random(20);
  const std::uint64_t arena = tracked.guest.map(kArenaBytes, kReadWrite);
  for (int round = 0; round < 8; ++round) {
    Freeze frozen = tracked.freeze();
    const TrackedGuest::Captured capture = tracked.capture();
    CHECK(capture.stored_pages <= capture.dirty_pages);
    const Snapshot actual = read_snapshot(tracked, tracked.guest.pid());
    REQUIRE(count_differences(readable_part(stored_snapshot(tracked), tracked), actual) == 0);
    frozen.thaw();
    change_at_random(tracked, arena, random);
    if (round == 4) tracked.guest.unmap(arena + 100 * kPageSize, 50 * kPageSize);
    if (round == 4) tracked.guest.map(60 * kPageSize, kReadWrite, arena + 95 * kPageSize);
  }
}

TEST_CASE("a capture without changes in between stores next to nothing") {
  TrackedGuest tracked;
  const std::uint64_t arena = tracked.guest.map(kArenaBytes, kReadWrite);
  tracked.guest.fill_by_kernel(arena, kArenaBytes);
  std::uint64_t first = 0;
  {
    const Freeze frozen = tracked.freeze();
    first = tracked.capture().dirty_pages;
  }
  const PageMap before = tracked.live.pages;
  const Freeze frozen = tracked.freeze();
  const std::uint64_t second = tracked.capture().dirty_pages;
  CHECK(first >= kArenaPages);
  CHECK(second <= 8);  // the engine's own traces: the page of the rseq area and such
}

TEST_CASE("memory goes back to any captured state, and the guest runs on from it") {
  TrackedGuest tracked;
  Random random(21);
  const std::uint64_t arena = tracked.guest.map(kArenaBytes, kReadWrite);
  const std::uint64_t read_only = tracked.guest.map(40 * kPageSize, kReadWrite);
  tracked.guest.fill_by_kernel(read_only, 40 * kPageSize);
  std::vector<Saved> states;
  std::vector<Snapshot> contents;
  for (int round = 0; round < 5; ++round) {
    change_at_random(tracked, arena, random);
    tracked.guest.write(read_only + random.below(40) * kPageSize, random.below(100));
    Freeze frozen = tracked.freeze();
    tracked.capture();
    states.push_back({tracked.live.pages, tracked.live.mappings, must(ptrace::registers(tracked.guest.pid()))});
    contents.push_back(read_snapshot(tracked, tracked.guest.pid()));
  }
  for (int round = 0; round < 12; ++round) {
    const std::size_t target = random.below(states.size());
    CAPTURE(target);
    change_at_random(tracked, arena, random);
    {
      Freeze frozen = tracked.freeze();
      tracked.capture();
      REQUIRE(tracked.live.mappings->size() == states[target].mappings->size());
      restore(tracked, states[target]);
      REQUIRE(count_differences(read_snapshot(tracked, tracked.guest.pid()), contents[target]) == 0);
    }
    REQUIRE(tracked.guest.answers());
  }
}

TEST_CASE("pages that the process itself may not touch are read and written") {
  TrackedGuest tracked;
  const std::uint64_t arena = tracked.guest.map(20 * kPageSize, kReadWrite);
  tracked.guest.fill_by_kernel(arena, 20 * kPageSize);
  tracked.guest.protect(arena, 10 * kPageSize, PROT_NONE);
  tracked.guest.protect(arena + 10 * kPageSize, 10 * kPageSize, PROT_READ);
  Freeze frozen = tracked.freeze();
  tracked.capture();
  const Snapshot before = read_snapshot(tracked, tracked.guest.pid());
  REQUIRE(count_differences(readable_part(stored_snapshot(tracked), tracked), before) == 0);
  std::vector<PageWrite> swaps;
  for (std::uint64_t index = 0; index < 20; ++index) {
    const auto other = tracked.live.pages.find((arena >> kPageShift) + 19 - index);
    REQUIRE(other.has_value());
    swaps.push_back({arena + index * kPageSize, *other});
  }
  swaps.back().contents = kZeroPage;
  must(write_pages(tracked.guest.proc_fd(), tracked.guest.pid(), *tracked.live.mappings, swaps, tracked.store));
  const Snapshot after = read_snapshot(tracked, tracked.guest.pid());
  const PageNumber first = arena >> kPageShift;
  for (PageNumber index = 0; index < 19; ++index) REQUIRE(after.at(first + index) == before.at(first + 19 - index));
  CHECK_FALSE(after.contains(first + 19));
}

TEST_CASE("writing where nothing is mapped is an error") {
  TrackedGuest tracked;
  const std::uint64_t arena = tracked.guest.map(kPageSize, kReadWrite);
  tracked.guest.unmap(arena, kPageSize);
  Freeze frozen = tracked.freeze();
  const auto list = tracked.mappings(tracked.guest.pid());
  CHECK_FALSE(
      write_pages(tracked.guest.proc_fd(), tracked.guest.pid(), *list, {{arena, kZeroPage}}, tracked.store).ok());
}

TEST_CASE("all pages return to the store with their process") {
  TrackedGuest tracked;
  Random random(22);
  const std::uint64_t arena = tracked.guest.map(kArenaBytes, kReadWrite);
  for (int round = 0; round < 4; ++round) {
    change_at_random(tracked, arena, random);
    const Freeze frozen = tracked.freeze();
    tracked.capture();
    // All pages of the map are one state's, so each is held once.
    CHECK(leaked_pages(tracked) == 0);
  }
  CHECK(tracked.store.stored_bytes() > 0);
  tracked.live.pages = PageMap();
  CHECK(tracked.store.stored_bytes() == 0);
}

TEST_CASE("scattered pages are stored once each") {
  TrackedGuest tracked;
  constexpr std::uint64_t kRuns = 1200;
  const std::uint64_t arena = tracked.guest.map(2 * kRuns * kPageSize, kReadWrite);
  for (std::uint64_t index = 0; index < kRuns; ++index) tracked.guest.write(arena + 2 * index * kPageSize, 1);
  const Freeze frozen = tracked.freeze();
  tracked.capture();
  CHECK(leaked_pages(tracked) == 0);
}

TEST_CASE("the mapping list is shared while nothing changes") {
  Guest guest;
  const auto first = must(list_mappings(guest.proc_fd(), guest.pid(), nullptr));
  CHECK(must(list_mappings(guest.proc_fd(), guest.pid(), first)) == first);
  const std::uint64_t arena = guest.map(4 * kPageSize, PROT_READ);
  const auto second = must(list_mappings(guest.proc_fd(), guest.pid(), first));
  CHECK(second != first);
  const Mapping* found = find_mapping(*second, arena);
  REQUIRE(found != nullptr);
  CHECK((found->protection & PROT_READ) != 0);
  guest.unmap(arena, 4 * kPageSize);
  CHECK(*must(list_mappings(guest.proc_fd(), guest.pid(), second)) == *first);
}

}  // namespace deltabox::test

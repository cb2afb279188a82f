#include "deltacr/memory_tracker.h"

#include <sys/mman.h>

#include "expect.h"
#include "random.h"
#include "tracked_guest.h"

namespace deltabox::test {

namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;
using Pages = std::set<PageNumber>;

Pages page_set(std::uint64_t start, std::initializer_list<std::uint64_t> indices) {
  Pages set;
  for (const std::uint64_t index : indices) set.insert((start >> kPageShift) + index);
  return set;
}

Pages page_run(std::uint64_t start, std::uint64_t count) {
  Pages set;
  for (std::uint64_t index = 0; index < count; ++index) set.insert((start >> kPageShift) + index);
  return set;
}

void write_pages_of(Guest& guest, std::uint64_t start, std::initializer_list<std::uint64_t> indices) {
  for (const std::uint64_t index : indices) guest.write(start + index * kPageSize, index + 1);
}

bool is_ordered(const std::vector<ChangedRun>& runs) {
  for (std::size_t index = 1; index < runs.size(); ++index) {
    if (runs[index].range.start < runs[index - 1].range.end) return false;
  }
  return true;
}

struct Shape {
  const char* name;
  std::uint64_t page_count;
  std::uint64_t filled;  // pages written before the first look
};

// One of each way to scan: mixed (small), dense (large, or huge and well filled), sparse (huge, mostly empty).
constexpr Shape kShapes[] = {
    {"mixed", 40, 40},
    {"mixed, with holes", 40, 5},
    {"dense", 1024, 1024},
    {"dense, with holes", 1024, 100},
    {"sparse", (80u << 20) >> kPageShift, 50},
    {"dense though huge", (80u << 20) >> kPageShift, (80u << 20) >> kPageShift},
};

// Maps and fills an arena of a shape, and looks once.
std::uint64_t make_arena(TrackedGuest& tracked, const Shape& shape) {
  const std::uint64_t arena = tracked.guest.map(shape.page_count * kPageSize, kReadWrite, 0, MAP_NORESERVE);
  if (shape.filled == shape.page_count) {
    tracked.guest.fill_by_kernel(arena, shape.page_count * kPageSize);
  }
  for (std::uint64_t index = 0; index < shape.filled; ++index)
    tracked.guest.write(arena + index * kPageSize, index + 1);
  tracked.look();
  return arena;
}

}  // namespace

TEST_CASE("a tracker reports the pages written since the last look, and no other") {
  TrackedGuest tracked;
  Random random(10);
  for (const Shape& shape : kShapes) {
    CAPTURE(shape.name);
    const std::uint64_t size_bytes = shape.page_count * kPageSize;
    const std::uint64_t arena = make_arena(tracked, shape);
    CHECK(pages_in(tracked.look(), arena, size_bytes).empty());
    for (int round = 0; round < 8; ++round) {
      Pages written;
      for (std::uint64_t count = random.below(60); count > 0; --count) {
        const std::uint64_t index = random.below(shape.page_count);
        tracked.guest.write(arena + index * kPageSize + 8 * random.below(512), random.below(1000));
        written.insert((arena >> kPageShift) + index);
      }
      const std::vector<ChangedRun> runs = tracked.look();
      REQUIRE(is_ordered(runs));
      REQUIRE(pages_in(runs, arena, size_bytes) == written);
    }
    tracked.guest.unmap(arena, size_bytes);
  }
}

// PAGEMAP_SCAN fills its vector 512 regions at a time; where it stopped for that reason is what it may still report as
// the walk's end once it went through.
TEST_CASE("many scattered pages are reported once each") {
  TrackedGuest tracked;
  for (const std::uint64_t count : {511u, 512u, 513u, 1024u, 1025u, 2047u, 2048u, 2049u, 4096u, 5000u}) {
    CAPTURE(count);
    const std::uint64_t size_bytes = 2 * count * kPageSize;
    const std::uint64_t arena = tracked.guest.map(size_bytes, kReadWrite);
    tracked.look();
    for (std::uint64_t index = 0; index < count; ++index) tracked.guest.write(arena + 2 * index * kPageSize, 1);
    const std::vector<ChangedRun> runs = tracked.look();
    CHECK(is_ordered(runs));
    CHECK(pages_in(runs, arena, size_bytes).size() == count);
    tracked.guest.unmap(arena, size_bytes);
  }
}

TEST_CASE("no page changes without being reported: full compare through /proc/PID/mem") {
  TrackedGuest tracked;
  Random random(11);
  std::vector<std::uint64_t> arenas;
  for (const Shape& shape : kShapes) arenas.push_back(make_arena(tracked, shape));
  tracked.look();
  Snapshot before = read_snapshot(tracked, tracked.guest.pid());
  for (int round = 0; round < 6; ++round) {
    for (int step = 0; step < 60; ++step) {
      const std::size_t which = random.below(arenas.size());
      const std::uint64_t index = random.below(kShapes[which].page_count - 8);
      const std::uint64_t address = arenas[which] + index * kPageSize;
      switch (random.below(5)) {
        case 0:
          tracked.guest.discard(address, (1 + random.below(8)) * kPageSize);
          break;
        case 1:
          tracked.guest.fill_by_kernel(address + random.below(4000), 1 + random.below(8000));
          break;
        case 2:
          tracked.guest.read(address);
          break;
        default:
          tracked.guest.write(address, random.below(3));
          break;
      }
    }
    const std::vector<ChangedRun> runs = tracked.look();
    const Snapshot after = read_snapshot(tracked, tracked.guest.pid());
    const Pages reported = pages_in(runs, 0, std::uint64_t{1} << 47);
    std::uint64_t unreported = 0;
    for (const auto& [number, contents] : after) {
      const auto was = before.find(number);
      if ((was == before.end() || was->second != contents) && !reported.contains(number)) ++unreported;
    }
    for (const auto& [number, contents] : before) {
      if (!after.contains(number) && !reported.contains(number)) ++unreported;
    }
    REQUIRE(unreported == 0);
    before = after;
  }
}

TEST_CASE("a new mapping is reported whole, once") {
  TrackedGuest tracked;
  tracked.look();
  for (const Shape& shape : kShapes) {
    CAPTURE(shape.name);
    const std::uint64_t size_bytes = shape.page_count * kPageSize;
    const std::uint64_t arena = tracked.guest.map(size_bytes, kReadWrite, 0, MAP_NORESERVE);
    write_pages_of(tracked.guest, arena, {0, 7});
    const std::vector<ChangedRun> runs = tracked.look();
    Pages with_contents;
    for (const ChangedRun& run : runs) {
      if (!run.dropped) with_contents.merge(pages_in({run}, arena, size_bytes));
    }
    CHECK(with_contents == page_set(arena, {0, 7}));
    CHECK(pages_in(tracked.look(), arena, size_bytes).empty());
    write_pages_of(tracked.guest, arena, {3});
    CHECK(pages_in(tracked.look(), arena, size_bytes) == page_set(arena, {3}));
    tracked.guest.unmap(arena, size_bytes);
  }
}

TEST_CASE("munmap and mmap at the same address is a new mapping") {
  TrackedGuest tracked;
  for (const Shape& shape : kShapes) {
    CAPTURE(shape.name);
    const std::uint64_t size_bytes = shape.page_count * kPageSize;
    const std::uint64_t arena = make_arena(tracked, shape);
    tracked.guest.unmap(arena, size_bytes);
    REQUIRE(tracked.guest.map(size_bytes, kReadWrite, arena, MAP_NORESERVE) == arena);
    tracked.guest.write(arena, 5);
    CHECK(pages_in(tracked.look(), arena, size_bytes) == page_run(arena, shape.page_count));
    tracked.guest.unmap(arena, size_bytes);
  }
}

TEST_CASE("a part that is mapped over is reported, the rest of the mapping is not") {
  TrackedGuest tracked;
  const std::uint64_t arena = make_arena(tracked, kShapes[2]);
  const std::uint64_t size_bytes = kShapes[2].page_count * kPageSize;
  tracked.guest.map(16 * kPageSize, kReadWrite, arena + 100 * kPageSize);
  CHECK(pages_in(tracked.look(), arena, size_bytes) == page_run(arena + 100 * kPageSize, 16));
  write_pages_of(tracked.guest, arena, {99, 101, 116});
  CHECK(pages_in(tracked.look(), arena, size_bytes) == page_set(arena, {99, 101, 116}));
}

TEST_CASE("MADV_DONTNEED is reported") {
  TrackedGuest tracked;
  for (const Shape& shape : kShapes) {
    CAPTURE(shape.name);
    const std::uint64_t size_bytes = shape.page_count * kPageSize;
    const std::uint64_t arena = tracked.guest.map(size_bytes, kReadWrite, 0, MAP_NORESERVE);
    const std::uint64_t filled = std::min<std::uint64_t>(shape.filled, 1024);
    for (std::uint64_t index = 0; index < filled; ++index) tracked.guest.write(arena + index * kPageSize, 1);
    // What is dropped from a sparse mapping is found by what is stored of it.
    {
      const Freeze frozen = tracked.freeze();
      tracked.capture();
    }
    tracked.guest.discard(arena + 2 * kPageSize, 3 * kPageSize);
    CHECK(pages_in(tracked.look(), arena, size_bytes) == page_run(arena + 2 * kPageSize, 3));
    tracked.guest.unmap(arena, size_bytes);
    {
      const Freeze frozen = tracked.freeze();
      tracked.capture();
    }
  }
}

TEST_CASE("long dropped runs of a dense mapping are reported as dropped") {
  TrackedGuest tracked;
  const std::uint64_t arena = make_arena(tracked, kShapes[2]);
  tracked.guest.discard(arena, 512 * kPageSize);
  tracked.guest.write(arena + 200 * kPageSize, 1);
  std::uint64_t dropped = 0;
  std::uint64_t present = 0;
  for (const ChangedRun& run : tracked.look()) {
    const std::uint64_t count = pages_in({run}, arena, 512 * kPageSize).size();
    (run.dropped ? dropped : present) += count;
  }
  CHECK(dropped == 511);
  CHECK(present == 1);
}

TEST_CASE("changing protections alone reports nothing, and loses nothing") {
  TrackedGuest tracked;
  for (const Shape& shape : kShapes) {
    CAPTURE(shape.name);
    const std::uint64_t size_bytes = shape.page_count * kPageSize;
    const std::uint64_t arena = make_arena(tracked, shape);
    write_pages_of(tracked.guest, arena, {1});
    tracked.guest.protect(arena, 4 * kPageSize, PROT_READ);
    CHECK(pages_in(tracked.look(), arena, size_bytes) == page_set(arena, {1}));
    tracked.guest.protect(arena, 4 * kPageSize, PROT_NONE);
    CHECK(pages_in(tracked.look(), arena, size_bytes).empty());
    tracked.guest.protect(arena, 4 * kPageSize, kReadWrite);
    CHECK(pages_in(tracked.look(), arena, size_bytes).empty());
    write_pages_of(tracked.guest, arena, {2});
    CHECK(pages_in(tracked.look(), arena, size_bytes) == page_set(arena, {2}));
    tracked.guest.unmap(arena, size_bytes);
  }
}

TEST_CASE("pages written between two looks under no protection are found whatever the protection was at the first") {
  TrackedGuest tracked;
  const std::uint64_t arena = tracked.guest.map(40 * kPageSize, PROT_NONE);
  tracked.look();
  tracked.guest.protect(arena, 40 * kPageSize, kReadWrite);
  tracked.look();
  write_pages_of(tracked.guest, arena, {0, 39});
  tracked.guest.protect(arena, 40 * kPageSize, PROT_READ);
  CHECK(pages_in(tracked.look(), arena, 40 * kPageSize) == page_set(arena, {0, 39}));
}

TEST_CASE("a grown break is reported") {
  TrackedGuest tracked;
  const std::uint64_t first = tracked.guest.grow_break(64 * kPageSize);
  tracked.guest.write(first + kPageSize, 1);
  tracked.look();
  const std::uint64_t second = tracked.guest.grow_break(32 * kPageSize);
  REQUIRE(second == first + 64 * kPageSize);
  const std::uint64_t aligned = (second + kPageSize - 1) / kPageSize * kPageSize;
  tracked.guest.write(aligned + 4 * kPageSize, 7);
  const Pages reported = pages_in(tracked.look(), aligned, 31 * kPageSize);
  CHECK(reported.contains((aligned >> kPageShift) + 4));
  tracked.guest.write(aligned + 5 * kPageSize, 7);
  CHECK(pages_in(tracked.look(), first, 95 * kPageSize) == page_set(aligned, {5}));
}

TEST_CASE("a mapping that moved is reported at its new place") {
  TrackedGuest tracked;
  for (const Shape& shape : kShapes) {
    CAPTURE(shape.name);
    const std::uint64_t size_bytes = shape.page_count * kPageSize;
    const std::uint64_t moved = tracked.guest.move(make_arena(tracked, shape), size_bytes);
    const Pages reported = pages_in(tracked.look(), moved, size_bytes);
    const std::uint64_t filled = std::min<std::uint64_t>(shape.filled, shape.page_count);
    for (std::uint64_t index = 0; index < filled; ++index) REQUIRE(reported.contains((moved >> kPageShift) + index));
    CHECK(pages_in(tracked.look(), moved, size_bytes).empty());
    tracked.guest.unmap(moved, size_bytes);
  }
}

TEST_CASE("a private file mapping reports copied pages and not pages that were read") {
  TrackedGuest tracked;
  // Any file that is there, longer than a few pages and never written: the C library of this process.
  std::string path;
  const auto mappings = tracked.mappings(tracked.guest.pid());
  for (const Mapping& mapping : *mappings) {
    if (mapping.has_file() && mapping.name.find("libc") != std::string::npos) path = mapping.name;
  }
  REQUIRE_FALSE(path.empty());
  const std::uint64_t arena = tracked.guest.map_file(path, 64 * kPageSize);
  for (std::uint64_t index = 0; index < 64; ++index) tracked.guest.read(arena + index * kPageSize);
  tracked.look();
  for (std::uint64_t index = 0; index < 64; ++index) tracked.guest.read(arena + index * kPageSize);
  CHECK(pages_in(tracked.look(), arena, 64 * kPageSize).empty());
  write_pages_of(tracked.guest, arena, {10, 20});
  CHECK(pages_in(tracked.look(), arena, 64 * kPageSize) == page_set(arena, {10, 20}));
}

// The kernel leaves a write-protect marker behind (as for every page of a file), which can't be told from a swapped
// page: the page is read again and held with the file's bytes.
TEST_CASE("a dropped page of a private file mapping holds the file's contents again") {
  TrackedGuest tracked;
  const std::uint64_t arena = tracked.guest.map_file("/proc/self/exe", 32 * kPageSize);
  const auto held = [&](std::uint64_t index) {
    const std::optional<PageId> page = tracked.live.pages.find((arena >> kPageShift) + index);
    return page ? std::string(reinterpret_cast<const char*>(tracked.store.bytes(*page)), kPageSize) : std::string();
  };
  const auto capture = [&] {
    const Freeze frozen = tracked.freeze();
    tracked.capture();
  };
  const std::string file = must(sys::read_file_at(AT_FDCWD, "/proc/self/exe", std::size_t{1} << 30));
  write_pages_of(tracked.guest, arena, {4, 5});
  capture();
  REQUIRE(held(4) != file.substr(4 * kPageSize, kPageSize));
  tracked.guest.discard(arena + 4 * kPageSize, kPageSize);
  capture();
  CHECK(held(4) == file.substr(4 * kPageSize, kPageSize));
  CHECK(held(5) != file.substr(5 * kPageSize, kPageSize));
  tracked.guest.read(arena + 4 * kPageSize);
  capture();
  CHECK(held(4) == file.substr(4 * kPageSize, kPageSize));
}

TEST_CASE("a fork reports exactly the parent's writes, and the child whole") {
  TrackedGuest tracked;
  const std::uint64_t arena = make_arena(tracked, kShapes[2]);
  const std::uint64_t size_bytes = kShapes[2].page_count * kPageSize;
  const HostTid child = tracked.guest.start_child(Kind::kSleep, 0);
  write_pages_of(tracked.guest, arena, {5, 500});
  CHECK(pages_in(tracked.look(), arena, size_bytes) == page_set(arena, {5, 500}));
  LiveProcess forked;
  tracked.track(child, forked);
  CHECK(pages_in(tracked.look(forked), arena, size_bytes).size() == kShapes[2].page_count);
  CHECK(pages_in(tracked.look(forked), arena, size_bytes).empty());
  CHECK(pages_in(tracked.look(), arena, size_bytes).empty());
}

TEST_CASE("nothing is lost when a look is given up between its halves") {
  TrackedGuest tracked;
  const std::uint64_t arena = make_arena(tracked, kShapes[2]);
  const std::uint64_t size_bytes = kShapes[2].page_count * kPageSize;
  write_pages_of(tracked.guest, arena, {1});
  {
    const Freeze frozen = tracked.freeze();
    const UniqueFd map = tracked.pagemap(tracked.guest.pid());
    const auto list = tracked.mappings(tracked.guest.pid());
    must(tracked.live.tracker->changes(map.get(), *list, parasite_range(tracked.live), tracked.live.pages));
  }
  write_pages_of(tracked.guest, arena, {2});
  CHECK(pages_in(tracked.look(), arena, size_bytes) == page_set(arena, {1, 2}));
}

}  // namespace deltabox::test

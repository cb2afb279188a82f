#include <algorithm>
#include <map>

#include "deltacr/address_space.h"
#include "expect.h"
#include "images.h"
#include "random.h"
#include "reconcile/plan.h"

namespace deltabox::test {

namespace {

constexpr AddressRange kNoRange{};

MappingPlan plan(const MappingList& live, const MappingList& target) {
  return plan_mappings(live, target, kNoRange, {});
}

Mapping kernel_provided(std::uint64_t first, std::uint64_t last, const char* name) {
  Mapping mapping = anonymous(first, last, PROT_READ);
  mapping.name = name;
  return mapping;
}

// A model of an address space: what lies at each page.
struct Cell {
  int protection = 0;
  std::uint64_t inode = 0;
  std::uint64_t file_page = 0;
  bool operator==(const Cell&) const = default;
};
using Cells = std::map<std::uint64_t, Cell>;

Cell cell_of(const Mapping& mapping, std::uint64_t number) {
  const std::uint64_t in_mapping = number - (mapping.range.start >> kPageShift);
  return {mapping.protection, mapping.inode, mapping.inode == 0 ? 0 : (mapping.file_offset >> kPageShift) + in_mapping};
}

Cells cells_of(const MappingList& mappings) {
  Cells cells;
  for (const Mapping& mapping : mappings) {
    for (std::uint64_t number = mapping.range.start >> kPageShift; number < mapping.range.end >> kPageShift; ++number) {
      cells[number] = cell_of(mapping, number);
    }
  }
  return cells;
}

void carry_out(Cells& cells, const MappingPlan& steps) {
  for (const UnmapRange& step : steps.unmap) {
    for (std::uint64_t n = step.range.start >> kPageShift; n < step.range.end >> kPageShift; ++n)
      REQUIRE(cells.erase(n) == 1);
  }
  for (const MapRange& step : steps.map) {
    for (std::uint64_t n = step.range.start >> kPageShift; n < step.range.end >> kPageShift; ++n) {
      cells[n] = cell_of(step.mapping, n);
    }
  }
  for (const ProtectRange& step : steps.protect) {
    for (std::uint64_t n = step.range.start >> kPageShift; n < step.range.end >> kPageShift; ++n) {
      REQUIRE(cells.at(n).protection != step.protection);
      cells.at(n).protection = step.protection;
    }
  }
}

MappingList random_mappings(Random& random) {
  MappingList list;
  for (std::uint64_t at = random.below(4); at < 60;) {
    const std::uint64_t end = at + 1 + random.below(9);
    const int protection = random.one_in(3) ? PROT_READ : kReadWrite;
    list.push_back(random.one_in(3) ? file_mapping(at, end, 1 + random.below(2), random.one_in(2) ? at : 0, protection)
                                    : anonymous(at, end, protection));
    at = end + random.below(3);
  }
  return list;
}

}  // namespace

TEST_CASE("equal mapping lists need nothing") {
  const MappingList list{anonymous(1, 5), file_mapping(5, 9, 3), kernel_provided(20, 22, "[vdso]")};
  CHECK(plan(list, list).empty());
  CHECK(plan({}, {}).empty());
}

TEST_CASE("mappings that came are unmapped, neighbours in one call") {
  const MappingPlan steps = plan({anonymous(1, 3), anonymous(3, 5), anonymous(8, 9)}, {});
  REQUIRE(steps.unmap.size() == 2);
  CHECK(steps.unmap[0].range == pages(1, 5));
  CHECK(steps.unmap[1].range == pages(8, 9));
  CHECK(steps.map.empty());
}

TEST_CASE("mappings that went are mapped anew") {
  const Mapping lost = file_mapping(4, 8, 3, 2);
  const MappingPlan steps = plan({}, {lost});
  REQUIRE(steps.map.size() == 1);
  CHECK(steps.map[0].range == lost.range);
  CHECK(steps.map[0].mapping == lost);
  CHECK(steps.unmap.empty());
}

TEST_CASE("a hole in a mapping is the only part that is mapped anew") {
  const MappingPlan steps = plan({anonymous(1, 4), anonymous(6, 9)}, {anonymous(1, 9)});
  REQUIRE(steps.map.size() == 1);
  CHECK(steps.map[0].range == pages(4, 6));
  CHECK(steps.unmap.empty());
  CHECK(steps.protect.empty());
}

TEST_CASE("a grown heap shrinks and a shrunk heap grows") {
  CHECK(plan({anonymous(1, 9)}, {anonymous(1, 4)}).unmap[0].range == pages(4, 9));
  CHECK(plan({anonymous(1, 4)}, {anonymous(1, 9)}).map[0].range == pages(4, 9));
}

TEST_CASE("another file, another place of it, or memory in place of a file is mapped anew") {
  const Mapping wanted = file_mapping(1, 3, 5, 10);
  for (const Mapping& present : {file_mapping(1, 3, 6, 10), file_mapping(1, 3, 5, 11), anonymous(1, 3)}) {
    const MappingPlan steps = plan({present}, {wanted});
    REQUIRE(steps.map.size() == 1);
    CHECK(steps.map[0].mapping == wanted);
  }
}

TEST_CASE("a split file mapping is the same file at the same place") {
  const Mapping first = file_mapping(1, 3, 5, 10);
  const Mapping second = file_mapping(3, 6, 5, 12);
  CHECK(plan({first, second}, {file_mapping(1, 6, 5, 10)}).empty());
}

TEST_CASE("changed protections are set back") {
  const MappingPlan steps =
      plan({anonymous(1, 9, PROT_READ)}, {anonymous(1, 3), anonymous(3, 6), anonymous(6, 9, PROT_READ)});
  REQUIRE(steps.protect.size() == 1);
  CHECK(steps.protect[0].range == pages(1, 6));
  CHECK(steps.protect[0].protection == kReadWrite);
  CHECK(steps.map.empty());
}

TEST_CASE("mappings of the kernel and of the parasite are never touched") {
  const MappingList live{kernel_provided(20, 22, "[vdso]"), kernel_provided(22, 24, "[vvar]"), anonymous(40, 48)};
  const MappingPlan steps = plan_mappings(live, {}, pages(40, 48), {});
  CHECK(steps.empty());
  CHECK(plan_mappings({}, live, pages(40, 48), {}).empty());
}

TEST_CASE("lost shared memory is named once and not made up") {
  const Mapping memory = shared(anonymous(1, 9));
  const MappingPlan steps = plan({anonymous(4, 5)}, {memory});
  CHECK(steps.map.empty());
  REQUIRE(steps.unrestorable.size() == 1);
  CHECK(steps.unrestorable[0] == memory);
  // Read-only views of files are only views: they can be had again.
  CHECK(plan({}, {shared(file_mapping(1, 9, 3))}).map.size() == 1);
  CHECK(plan({}, {shared(file_mapping(1, 9, 3, 0, kReadWrite))}).unrestorable.size() == 1);
}

TEST_CASE("a plan applied to the live mappings gives the target's, for random address spaces") {
  Random random(5);
  for (int round = 0; round < 3000; ++round) {
    const MappingList live = random_mappings(random);
    const MappingList target = random.one_in(10) ? MappingList{} : random_mappings(random);
    Cells cells = cells_of(live);
    carry_out(cells, plan(live, target));
    REQUIRE(cells == cells_of(target));
  }
}

TEST_CASE("pages that differ are written, in order, and pages that were not there are dropped") {
  PageStore store;
  std::vector<PageId> stored;
  must(store.allocate(4, stored));
  const PageUpdate live_pages[] = {{1, stored[0]}, {2, stored[1]}, {3, kZeroPage}, {4, kZeroPage}, {9, kZeroPage}};
  const PageUpdate target_pages[] = {{1, stored[0]}, {2, stored[2]}, {5, stored[3]}, {6, kZeroPage}};
  store.add_reference(stored[0]);
  const PageMap live = PageMap::updated(PageMap(), live_pages, store);
  const PageMap target = PageMap::updated(PageMap(), target_pages, store);
  // Page 9 lies in no mapping of the target: it goes with its mapping.
  const PagePlan steps = plan_pages(live, target, {anonymous(1, 8)}, {});
  REQUIRE(steps.writes.size() == 3);
  CHECK(steps.writes[0].address == page(2));
  CHECK(steps.writes[0].contents == stored[2]);
  CHECK(steps.writes[1].address == page(5));
  CHECK(steps.writes[2].address == page(6));
  CHECK(steps.writes[2].contents == kZeroPage);
  CHECK(steps.drops == std::vector<AddressRange>{pages(3, 5)});
  CHECK(plan_pages(live, live, {anonymous(1, 8)}, {}).writes.empty());
}

TEST_CASE("a range that is mapped anew gets all its pages, whether they differ or not") {
  PageStore store;
  const PageUpdate same[] = {{1, kZeroPage}, {2, kZeroPage}, {3, kZeroPage}, {10, kZeroPage}};
  const PageMap map = PageMap::updated(PageMap(), same, store);
  const PageUpdate gone[] = {{1, std::nullopt}, {4, kZeroPage}};
  const PageMap live = PageMap::updated(map, gone, store);
  const std::vector<MapRange> remapped{{pages(2, 5), anonymous(2, 5)}};
  const PagePlan steps = plan_pages(live, map, {anonymous(1, 12)}, remapped);
  std::vector<std::uint64_t> written;
  for (const PageWrite& write : steps.writes) written.push_back(write.address);
  CHECK(written == std::vector<std::uint64_t>{page(1), page(2), page(3)});
  CHECK(steps.drops.empty());  // page 4 was in the range that is fresh now
}

TEST_CASE("find_mapping finds the mapping that covers an address and no other") {
  const MappingList list{anonymous(1, 3), anonymous(3, 4), anonymous(8, 9)};
  CHECK(find_mapping(list, page(1)) == &list[0]);
  CHECK(find_mapping(list, page(3) - 1) == &list[0]);
  CHECK(find_mapping(list, page(3)) == &list[1]);
  CHECK(find_mapping(list, 0) == nullptr);
  CHECK(find_mapping(list, page(4)) == nullptr);
  CHECK(find_mapping(list, page(9)) == nullptr);
  CHECK(find_mapping({}, page(1)) == nullptr);
}

}  // namespace deltabox::test

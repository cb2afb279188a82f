#include "pagestore/page_store.h"

#include <cstring>
#include <set>

#include "expect.h"
#include "random.h"

namespace deltabox::test {

TEST_CASE("pages are distinct, aligned, writable and never page zero") {
  PageStore store;
  std::vector<PageId> pages;
  must(store.allocate(1500, pages));  // three segments
  CHECK(std::set<PageId>(pages.begin(), pages.end()).size() == 1500);
  CHECK(store.stored_bytes() == 1500 * kPageSize);
  for (std::size_t index = 0; index < pages.size(); ++index) {
    REQUIRE(pages[index] != kZeroPage);
    REQUIRE(reinterpret_cast<std::uintptr_t>(store.bytes(pages[index])) % kPageSize == 0);
    std::memset(store.bytes(pages[index]), static_cast<int>(index % 251), kPageSize);
  }
  for (std::size_t index = 0; index < pages.size(); ++index) {
    REQUIRE(store.bytes(pages[index])[0] == static_cast<std::byte>(index % 251));
    REQUIRE(store.bytes(pages[index])[kPageSize - 1] == static_cast<std::byte>(index % 251));
  }
}

TEST_CASE("pages of one allocation lie side by side in a fresh store") {
  PageStore store;
  std::vector<PageId> pages;
  must(store.allocate(512, pages));
  for (std::size_t index = 1; index < pages.size(); ++index) {
    REQUIRE(store.bytes(pages[index]) == store.bytes(pages[index - 1]) + kPageSize);
  }
}

TEST_CASE("a page is recycled with its last reference and not before") {
  PageStore store;
  std::vector<PageId> pages;
  must(store.allocate(512, pages));
  const PageId shared = pages[100];
  store.add_reference(shared);
  store.drop_reference(shared);
  CHECK(store.stored_bytes() == 512 * kPageSize);
  store.drop_reference(shared);
  CHECK(store.stored_bytes() == 511 * kPageSize);
  std::vector<PageId> next;
  must(store.allocate(1, next));
  CHECK(next.front() == shared);
}

TEST_CASE("the zero page takes references without being stored") {
  PageStore store;
  store.add_reference(kZeroPage);
  store.drop_reference(kZeroPage);
  CHECK(store.stored_bytes() == 0);
}

TEST_CASE("reserved pages are not counted as stored") {
  PageStore store;
  must(store.reserve(5000));
  CHECK(store.stored_bytes() == 0);
  std::vector<PageId> pages;
  must(store.allocate(0, pages));
  CHECK(pages.empty());
}

TEST_CASE("random allocations never hand out a page twice") {
  PageStore store;
  Random random(3);
  std::vector<PageId> held;
  std::set<PageId> live;
  for (int round = 0; round < 300; ++round) {
    std::vector<PageId> fresh;
    must(store.allocate(random.below(40), fresh));
    for (const PageId page : fresh) REQUIRE(live.insert(page).second);
    held.insert(held.end(), fresh.begin(), fresh.end());
    for (std::uint64_t drops = random.below(45); drops > 0 && !held.empty(); --drops) {
      std::swap(held[random.below(held.size())], held.back());
      store.drop_reference(held.back());
      live.erase(held.back());
      held.pop_back();
    }
    REQUIRE(store.stored_bytes() == held.size() * kPageSize);
  }
}

}  // namespace deltabox::test

#include "pagestore/page_map.h"

#include <algorithm>
#include <map>
#include <vector>

#include "expect.h"
#include "random.h"

namespace deltabox::test {

namespace {

using Model = std::map<PageNumber, PageId>;

constexpr PageNumber kPageNumbers = PageNumber{1} << 36;

PageId allocate_one(PageStore& store) {
  std::vector<PageId> pages;
  must(store.allocate(1, pages));
  return pages.front();
}

// Clusters of neighbours, a few far apart, the last page numbers among them.
PageNumber draw_page(Random& random) {
  static constexpr PageNumber kClusters[] = {
      0, 62, 4000, PageNumber{1} << 24, (PageNumber{1} << 30) - 3, kPageNumbers - 80};
  return kClusters[random.below(std::size(kClusters))] + random.below(80);
}

// Applies a batch of random updates to both.
PageMap update_both(const PageMap& map, Model& model, PageStore& store, Random& random) {
  std::map<PageNumber, std::optional<PageId>> batch;
  const std::uint64_t count = 1 + random.below(120);
  for (std::uint64_t index = 0; index < count; ++index) batch[draw_page(random)] = std::nullopt;
  std::vector<PageUpdate> updates;
  for (auto& [page, contents] : batch) {
    if (!random.one_in(3)) contents = random.one_in(8) ? kZeroPage : allocate_one(store);
    updates.push_back({page, contents});
    if (contents) {
      model[page] = *contents;
    } else {
      model.erase(page);
    }
  }
  return PageMap::updated(map, updates, store);
}

void check_equal(const PageMap& map, const Model& model) {
  REQUIRE(map.size() == model.size());
  Model seen;
  PageNumber last = 0;
  bool ordered = true;
  map.for_each(0, kPageNumbers, [&](PageNumber page, PageId contents) {
    ordered = ordered && (seen.empty() || page > last);
    last = page;
    seen[page] = contents;
  });
  REQUIRE(ordered);
  REQUIRE(seen == model);
}

}  // namespace

TEST_CASE("an empty page map holds nothing") {
  PageMap map;
  CHECK(map.size() == 0);
  CHECK_FALSE(map.find(0).has_value());
  map.for_each(0, kPageNumbers, [](PageNumber, PageId) { FAIL("visited a page of an empty map"); });
}

TEST_CASE("a page map that loses its last page is empty and usable again") {
  PageStore store;
  const PageId page = allocate_one(store);
  const PageUpdate add{7, page};
  PageMap map = PageMap::updated(PageMap(), {&add, 1}, store);
  const PageUpdate erase{7, std::nullopt};
  map = PageMap::updated(map, {&erase, 1}, store);
  CHECK(map.size() == 0);
  CHECK_FALSE(map.find(7).has_value());
  CHECK(store.stored_bytes() == 0);
  const PageUpdate again{8, allocate_one(store)};
  map = PageMap::updated(map, {&again, 1}, store);
  CHECK(map.size() == 1);
}

TEST_CASE("erasing a page that is not there changes nothing") {
  PageStore store;
  const PageUpdate add{1000, allocate_one(store)};
  const PageMap map = PageMap::updated(PageMap(), {&add, 1}, store);
  const PageUpdate erase[] = {{999, std::nullopt}, {1001, std::nullopt}, {kPageNumbers - 1, std::nullopt}};
  const PageMap same = PageMap::updated(map, erase, store);
  CHECK(same.size() == 1);
  CHECK(same.find(1000) == map.find(1000));
}

TEST_CASE("zero pages are kept in the map and never stored") {
  PageStore store;
  const PageUpdate add[] = {{1, kZeroPage}, {2, kZeroPage}};
  const PageMap map = PageMap::updated(PageMap(), add, store);
  CHECK(map.size() == 2);
  CHECK(map.find(1) == kZeroPage);
  CHECK(store.stored_bytes() == 0);
}

TEST_CASE("for_each keeps to its range") {
  PageStore store;
  std::vector<PageUpdate> updates;
  for (PageNumber page = 0; page < 300; ++page) updates.push_back({page, kZeroPage});
  const PageMap map = PageMap::updated(PageMap(), updates, store);
  for (const auto& [first, last] :
       {std::pair<PageNumber, PageNumber>{63, 65}, {64, 128}, {0, 0}, {10, 5}, {299, 4000}}) {
    std::vector<PageNumber> seen;
    map.for_each(first, last, [&](PageNumber page, PageId) { seen.push_back(page); });
    std::vector<PageNumber> expected;
    for (PageNumber page = first; page < std::min<PageNumber>(last, 300); ++page) expected.push_back(page);
    CHECK(seen == expected);
  }
}

TEST_CASE("random updates of a page map match std::map, and all references return") {
  PageStore store;
  Random random(1);
  {
    std::vector<std::pair<PageMap, Model>> history(1);
    for (int round = 0; round < 400; ++round) {
      // Any of the past states may be the parent: a tree of checkpoints.
      const auto& [parent, parent_model] = history[random.below(history.size())];
      Model model = parent_model;
      PageMap map = update_both(parent, model, store, random);
      check_equal(map, model);
      for (int probe = 0; probe < 20; ++probe) {
        const PageNumber page = draw_page(random);
        const auto expected = model.find(page);
        REQUIRE(map.find(page) == (expected == model.end() ? std::nullopt : std::optional<PageId>(expected->second)));
      }
      history.emplace_back(std::move(map), std::move(model));
      if (history.size() > 30) history.erase(history.begin() + static_cast<long>(random.below(history.size())));
    }
    // The old states are as they were, whatever was made from them.
    for (const auto& [map, model] : history) check_equal(map, model);
  }
  CHECK(store.stored_bytes() == 0);
}

TEST_CASE("the difference of two page maps is every page that differs and no other") {
  PageStore store;
  Random random(2);
  Model first_model;
  PageMap first = update_both(PageMap(), first_model, store, random);
  for (int round = 0; round < 200; ++round) {
    Model second_model = first_model;
    const PageMap second = update_both(first, second_model, store, random);
    using Change = std::pair<std::optional<PageId>, std::optional<PageId>>;
    std::map<PageNumber, Change> seen;
    PageMap::for_each_difference(first, second,
                                 [&](PageNumber page, std::optional<PageId> from, std::optional<PageId> to) {
                                   REQUIRE(seen.emplace(page, Change{from, to}).second);
                                 });
    std::map<PageNumber, Change> expected;
    for (const auto& [page, contents] : first_model) expected[page].first = contents;
    for (const auto& [page, contents] : second_model) expected[page].second = contents;
    std::erase_if(expected, [](const auto& entry) { return entry.second.first == entry.second.second; });
    REQUIRE(seen == expected);
    first = second;
    first_model = second_model;
  }
  int differences = 0;
  PageMap::for_each_difference(first, first, [&](auto, auto, auto) { ++differences; });
  CHECK(differences == 0);
}

TEST_CASE("copies and moves of a page map count their references") {
  PageStore store;
  const PageUpdate add{5, allocate_one(store)};
  PageMap map = PageMap::updated(PageMap(), {&add, 1}, store);
  {
    PageMap copy = map;
    PageMap moved = std::move(copy);
    CHECK(moved.size() == 1);
    map = PageMap();
    CHECK(store.stored_bytes() == kPageSize);
    map = moved;
    PageMap& itself = map;
    map = itself;
  }
  CHECK(map.find(5).has_value());
  map = PageMap();
  CHECK(store.stored_bytes() == 0);
}

}  // namespace deltabox::test

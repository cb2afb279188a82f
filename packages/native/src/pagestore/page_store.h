// Where the bytes of pages live: segments of 2 MiB, a reference count per page, recycled slots first.
//
// First-touch faults are the price of fresh memory (2–3 µs per page on slow machines), so segments ask for transparent
// huge pages and are touched ahead of need: reserve() between calls keeps a pause free of faults.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace deltabox {

// Names a stored page. Zero pages are never stored.
using PageId = std::uint32_t;
inline constexpr PageId kZeroPage = 0;

class PageStore {
 public:
  PageStore() = default;
  PageStore(const PageStore&) = delete;
  PageStore& operator=(const PageStore&) = delete;
  ~PageStore();

  // Appends `count` fresh pages with one reference each to `pages`.
  Result<void> allocate(std::size_t count, std::vector<PageId>& pages);
  void add_reference(PageId page);
  void drop_reference(PageId page);
  std::byte* bytes(PageId page);
  const std::byte* bytes(PageId page) const;

  // Makes sure that `page_count` pages can be allocated without a fault.
  Result<void> reserve(std::size_t page_count);
  std::uint64_t stored_bytes() const { return (slots_used_ - free_.size()) * kPageSize; }

 private:
  static constexpr std::size_t kPagesPerSegment = 512;
  static constexpr std::size_t kSegmentBytes = kPagesPerSegment * kPageSize;

  Result<void> add_segment();

  std::vector<std::byte*> segments_;
  std::vector<std::uint32_t> references_;  // by PageId - 1
  std::vector<PageId> free_;               // given back
  std::size_t slots_used_ = 0;             // ever handed out; what lies behind is fresh, and neighbours in a row
};

}  // namespace deltabox

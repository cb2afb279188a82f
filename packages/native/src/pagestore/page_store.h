// Where the bytes of pages live: segments of 2 MiB, a reference count per page, recycled slots first.
//
// First-touch faults are the price of fresh memory (2–3 µs per page on slow machines), so segments ask for transparent
// huge pages and are touched ahead of need: reserve() between calls keeps a pause free of faults.
//
// A file of pages can be taken in as it is: its segments are mappings of it, so that all engines that have it share one
// copy of it, the page cache's. Its slots are not used again; a segment that nobody refers to any more is unmapped.
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

  // Takes in a file of pages, which nobody may change. Its pages lie in a row from the returned one and have no
  // references yet; is_mapped() tells whether those of a range still have their contents.
  Result<PageId> adopt_file(int fd, std::size_t page_count);
  bool is_mapped(PageId first, std::size_t page_count) const;
  // With the id it names contents for ever: slots are used again, each time under another generation.
  std::uint32_t generation(PageId page) const { return generations_[page - 1]; }

  // Makes sure that `page_count` pages can be allocated without a fault.
  Result<void> reserve(std::size_t page_count);
  // Gives the memory of segments back that nobody uses, but for `keep_pages` that can be allocated without a fault.
  // Does nothing while there is little to give.
  void trim(std::size_t keep_pages);
  // In memory of the engine's own; what is in files counts as theirs.
  std::uint64_t stored_bytes() const { return (slots_used_ - free_.size() - file_slots_) * kPageSize; }

 private:
  static constexpr std::size_t kPagesPerSegment = 512;
  static constexpr std::size_t kSegmentBytes = kPagesPerSegment * kPageSize;

  struct Segment {
    std::byte* start = nullptr;  // null: of a file, and not mapped any more
    bool is_file = false;
    bool trimmed = false;  // all of its slots are free, and its memory was given back
    std::uint32_t referred_pages = 0;
  };

  Result<void> add_segment();
  Segment& segment_of(PageId page) { return segments_[(page - 1) / kPagesPerSegment]; }

  std::vector<Segment> segments_;
  std::vector<std::uint32_t> references_;   // by PageId - 1
  std::vector<std::uint32_t> generations_;  // by PageId - 1
  std::vector<PageId> free_;                // given back; those of trimmed segments first, each segment's in a row
  std::size_t trimmed_slots_ = 0;           // at the front of free_
  std::size_t slots_used_ = 0;              // ever handed out; what lies behind is fresh, and neighbours in a row
  std::size_t file_slots_ = 0;              // of slots_used_
};

}  // namespace deltabox

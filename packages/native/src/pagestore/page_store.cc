#include "pagestore/page_store.h"

#include <sys/mman.h>

#include <cassert>

namespace deltabox {

namespace {
constexpr std::size_t kMaxSegments = std::size_t{1} << 22;
constexpr std::size_t kMinTrimmedPages = 8192;  // 32 MiB: below it nothing is worth the trouble
}  // namespace

PageStore::~PageStore() {
  for (const Segment& segment : segments_) {
    if (segment.start != nullptr) ::munmap(segment.start, kSegmentBytes);
  }
}

Result<void> PageStore::add_segment() {
  if (segments_.size() >= kMaxSegments) return make_error(Code::kTooLarge, "the page store holds 8 TiB");
  // Twice the size, trimmed to an aligned half: a huge page needs its alignment.
  void* raw =
      ::mmap(nullptr, 2 * kSegmentBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return os_error("mmap", "page store segment");
  auto* start = static_cast<std::byte*>(raw);
  const auto misaligned = reinterpret_cast<std::uintptr_t>(start) % kSegmentBytes;
  const std::size_t head = misaligned == 0 ? 0 : kSegmentBytes - misaligned;
  if (head > 0) ::munmap(start, head);
  ::munmap(start + head + kSegmentBytes, kSegmentBytes - head);
  std::byte* segment = start + head;
  ::madvise(segment, kSegmentBytes, MADV_HUGEPAGE);
  ::madvise(segment, kSegmentBytes, MADV_POPULATE_WRITE);
  segments_.push_back({segment});
  references_.resize(references_.size() + kPagesPerSegment, 0);
  generations_.resize(references_.size(), 0);
  return {};
}

Result<PageId> PageStore::adopt_file(int fd, std::size_t page_count) {
  // Whole segments: what is left of the last one in memory comes to those that were given back.
  for (std::size_t slot = references_.size(); slot > slots_used_; --slot) free_.push_back(static_cast<PageId>(slot));
  slots_used_ = references_.size();
  const auto first = static_cast<PageId>(slots_used_ + 1);
  const std::size_t count = (page_count + kPagesPerSegment - 1) / kPagesPerSegment;
  if (segments_.size() + count >= kMaxSegments) return make_error(Code::kTooLarge, "the page store holds 8 TiB");
  for (std::size_t index = 0; index < count; ++index) {
    void* start = ::mmap(nullptr, kSegmentBytes, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(index * kSegmentBytes));
    if (start == MAP_FAILED) return os_error("mmap", "page file");
    segments_.push_back({static_cast<std::byte*>(start), true});
    references_.resize(references_.size() + kPagesPerSegment, 0);
    generations_.resize(references_.size(), 0);
    slots_used_ += kPagesPerSegment;
    file_slots_ += kPagesPerSegment;
  }
  return first;
}

bool PageStore::is_mapped(PageId first, std::size_t page_count) const {
  for (std::size_t segment = (first - 1) / kPagesPerSegment; segment * kPagesPerSegment < first - 1 + page_count;
       ++segment) {
    if (segments_[segment].start == nullptr) return false;
  }
  return true;
}

Result<void> PageStore::reserve(std::size_t page_count) {
  while (free_.size() - trimmed_slots_ + references_.size() - slots_used_ < page_count) {
    if (trimmed_slots_ == 0) {
      TRY(add_segment());
      continue;
    }
    Segment& segment = segment_of(free_[trimmed_slots_ - 1]);
    ::madvise(segment.start, kSegmentBytes, MADV_POPULATE_WRITE);
    segment.trimmed = false;
    trimmed_slots_ -= kPagesPerSegment;
  }
  return {};
}

void PageStore::trim(std::size_t keep_pages) {
  if (free_.size() - trimmed_slots_ < keep_pages + kMinTrimmedPages) return;
  std::vector<PageId> given_back;
  for (std::size_t index = 0; index < segments_.size(); ++index) {
    Segment& segment = segments_[index];
    const bool is_whole = (index + 1) * kPagesPerSegment <= slots_used_;
    if (segment.is_file || segment.referred_pages > 0 || !is_whole) continue;
    if (!segment.trimmed) {
      if (free_.size() - given_back.size() < keep_pages + kPagesPerSegment) continue;
      ::madvise(segment.start, kSegmentBytes, MADV_DONTNEED);
      segment.trimmed = true;
    }
    for (std::size_t slot = (index + 1) * kPagesPerSegment; slot > index * kPagesPerSegment; --slot) {
      given_back.push_back(static_cast<PageId>(slot));
    }
  }
  trimmed_slots_ = given_back.size();
  std::erase_if(free_, [this](PageId page) { return segment_of(page).trimmed; });
  given_back.insert(given_back.end(), free_.begin(), free_.end());
  free_ = std::move(given_back);
}

Result<void> PageStore::allocate(std::size_t count, std::vector<PageId>& pages) {
  TRY(reserve(count));
  pages.reserve(pages.size() + count);
  for (std::size_t index = 0; index < count; ++index) {
    PageId page = 0;
    if (free_.empty()) {
      page = static_cast<PageId>(++slots_used_);
    } else {
      page = free_.back();
      free_.pop_back();
    }
    references_[page - 1] = 1;
    ++segment_of(page).referred_pages;
    pages.push_back(page);
  }
  return {};
}

void PageStore::add_reference(PageId page) {
  if (page == kZeroPage || references_[page - 1]++ > 0) return;
  ++segment_of(page).referred_pages;
}

void PageStore::drop_reference(PageId page) {
  if (page == kZeroPage) return;
  assert(references_[page - 1] > 0);
  if (--references_[page - 1] > 0) return;
  Segment& segment = segment_of(page);
  --segment.referred_pages;
  if (!segment.is_file) {
    ++generations_[page - 1];
    free_.push_back(page);
  } else if (segment.referred_pages == 0) {
    ::munmap(segment.start, kSegmentBytes);
    segment.start = nullptr;
  }
}

std::byte* PageStore::bytes(PageId page) {
  return segment_of(page).start + ((page - 1) % kPagesPerSegment) * kPageSize;
}

const std::byte* PageStore::bytes(PageId page) const { return const_cast<PageStore*>(this)->bytes(page); }

}  // namespace deltabox

#include "pagestore/page_store.h"

#include <sys/mman.h>

#include <cassert>

namespace deltabox {

PageStore::~PageStore() {
  for (std::byte* segment : segments_) ::munmap(segment, kSegmentBytes);
}

Result<void> PageStore::add_segment() {
  if (segments_.size() >= (std::size_t{1} << 22)) return make_error(Code::kTooLarge, "the page store holds 8 TiB");
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
  segments_.push_back(segment);
  references_.resize(references_.size() + kPagesPerSegment, 0);
  return {};
}

Result<void> PageStore::reserve(std::size_t page_count) {
  while (free_.size() + references_.size() - slots_used_ < page_count) TRY(add_segment());
  return {};
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
    pages.push_back(page);
  }
  return {};
}

void PageStore::add_reference(PageId page) {
  if (page != kZeroPage) ++references_[page - 1];
}

void PageStore::drop_reference(PageId page) {
  if (page == kZeroPage) return;
  assert(references_[page - 1] > 0);
  if (--references_[page - 1] == 0) free_.push_back(page);
}

std::byte* PageStore::bytes(PageId page) {
  return segments_[(page - 1) / kPagesPerSegment] + ((page - 1) % kPagesPerSegment) * kPageSize;
}

const std::byte* PageStore::bytes(PageId page) const { return const_cast<PageStore*>(this)->bytes(page); }

}  // namespace deltabox

// Moves pages between a frozen address space and the page store.
#pragma once

#include <vector>

#include "base/result.h"
#include "deltacr/image.h"
#include "deltacr/live_process.h"
#include "pagestore/page_store.h"

namespace deltabox {

struct MemoryCapture {
  std::uint64_t dirty_pages = 0;   // changed, with contents
  std::uint64_t stored_pages = 0;  // of those, not zero
};

// Brings live.pages up to date with what the frozen process holds, reading only what changed. `mappings` is the list as
// of now; live.mappings still is the one of the last look, and becomes the new one.
struct MemoryTimes {
  double scan_us = 0;
  double copy_us = 0;
};
Result<MemoryCapture> capture_memory(int proc_fd, LiveProcess& live, std::shared_ptr<const MappingList> mappings,
                                     PageStore& store, MemoryTimes& times);

// The address range of the parasite, which is no part of an image.
AddressRange parasite_range(const LiveProcess& live);

// One page to put back; without a stored page it is dropped (zeros, or the file's contents).
struct PageWrite {
  std::uint64_t address = 0;
  PageId contents = kZeroPage;
};
// Writes stored pages (zero pages included) into the frozen process.
Result<void> write_pages(int proc_fd, HostTid pid, const MappingList& mappings, const std::vector<PageWrite>& writes,
                         const PageStore& store);

}  // namespace deltabox

// Moves pages between a frozen address space and the page store.
#pragma once

#include <optional>
#include <vector>

#include "base/result.h"
#include "deltacr/image.h"
#include "deltacr/live_process.h"
#include "deltacr/parked_copy.h"
#include "pagestore/page_store.h"
#include "parasite/session.h"

namespace deltabox {

// What a frozen process wrote since the last look, copied into the page store and not yet entered into its page map.
struct MemoryCapture {
  std::uint64_t dirty_pages = 0;       // changed, with contents
  std::uint64_t unreadable_pages = 0;  // of these, left out
  std::vector<PageUpdate> updates;     // what is to be entered, in no order
  // Not copied yet: of these the copy of the process still has the contents.
  std::optional<ParkedCopy> parked;
  std::vector<std::uint64_t> parked_addresses;
};

// What a frozen process wrote since the last look; `mappings` is the list as of now. Those of several processes can be
// asked for side by side.
Result<std::vector<ChangedRun>> changed_runs(LiveProcess& live, const MappingList& mappings);

struct MemoryTimes {
  double scan_us = 0;
  double copy_us = 0;
};
// Reads those. live.mappings still is the list of the last look, and becomes the new one. What it returns must be
// entered before the next look. With a session a large delta is parked (deltacr/parked_copy.h), without one it is
// copied at once.
Result<MemoryCapture> capture_memory(int proc_fd, LiveProcess& live, std::shared_ptr<const MappingList> mappings,
                                     const std::vector<ChangedRun>& runs, PageStore& store, parasite::Session* session,
                                     MemoryTimes& times);

// Brings live.pages up to date with a capture (of a tracker that only compares, with what of it is another page now);
// nothing of it needs the process, which may run meanwhile. Returns how many of its pages are stored (not zero). Fails
// when what was parked is lost (TRACEE_GONE) or finds no room; the next look then finds all of the process changed.
Result<std::uint64_t> enter_pages(int proc_fd, LiveProcess& live, MemoryCapture capture, PageStore& store);

// The address range of the parasite, which is no part of an image.
AddressRange parasite_range(const LiveProcess& live);

// One page to put back; without a stored page it is dropped (zeros, or the file's contents).
struct PageWrite {
  std::uint64_t address = 0;
  PageId contents = kZeroPage;
};
// Fills holes of `parts`, private mappings without a file that the tracker has registered, in order; cheaper than to
// write there. Returns what is left to be written: pages that are there already, and those outside of the parts.
Result<std::vector<PageWrite>> fill_pages(const LiveProcess& live, const std::vector<AddressRange>& parts,
                                          const std::vector<PageWrite>& writes, const PageStore& store);
// Writes stored pages (zero pages included) into the frozen process.
Result<void> write_pages(int proc_fd, HostTid pid, const MappingList& mappings, const std::vector<PageWrite>& writes,
                         const PageStore& store);

}  // namespace deltabox

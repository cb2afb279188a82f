// Finds the pages that an address space wrote since the last look: userfaultfd write protection in asynchronous mode
// (UFFD_FEATURE_WP_ASYNC) and PAGEMAP_SCAN, both 6.7. The kernel resolves write faults itself; a page is "written" when
// its protection bit is gone.
//
// A look has two halves, both while the process is frozen: changes() only reads, protect() arms the next look. Nothing
// is lost when a capture fails between them.
//
// Three ways to scan, since their prices differ by a factor of twenty:
//  dense   one walk over a run of neighbouring mappings, all of whose pages are protected, holes and the page cache's
//          included: the kernel's fast path, which knows only "written". A page of a library that is read for the first
//          time then arrives protected. A second walk finds the markers of file mappings.
//  mixed   a walk over one huge file mapping, for the pages that are its own (not the page cache's)
//  sparse  the same walk over one reservation or huge, mostly empty mapping; holes are not marked, since that costs
//          page tables
//
// A mapping made since the last look is not registered, and the kernel says EPERM (PM_SCAN_CHECK_WPASYNC; without that
// flag it would be skipped silently). It is then registered and reported whole.
//
// Where a task may have no userfaultfd (a container's filter denies it), a tracker reports all pages that the process
// has of its own at each look, and whoever copies them compares them with those of the last one.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/image.h"
#include "parasite/session.h"

namespace deltabox {

// Pages that changed. `dropped`: the page holds nothing of its own any more (zeros, or its file's contents).
struct ChangedRun {
  AddressRange range;
  bool dropped = false;
};

class MemoryTracker {
 public:
  // Makes the userfaultfd inside the tracee (it belongs to the address space that makes it) and takes it over.
  static Result<MemoryTracker> create(parasite::Session& session, const parasite::Site& site, int pidfd);

  // One that knows nothing of writes.
  static MemoryTracker comparing() { return {}; }
  bool compares() const { return !userfaultfd_.valid(); }

  // In order of addresses. `stored`: the pages held for this address space so far.
  Result<std::vector<ChangedRun>> changes(int pagemap_fd, const MappingList& mappings, AddressRange excluded,
                                          const PageMap& stored);
  // Arms the next look for the pages in `runs` (in order of addresses), whose contents are known now. A page left out
  // is reported again at the next look, which costs a copy and nothing else.
  Result<void> protect(int pagemap_fd, const MappingList& mappings, AddressRange excluded,
                       const std::vector<ChangedRun>& runs);

  // Twice does no harm.
  Result<void> register_range(AddressRange range);
  // Copies pages into holes of a registered mapping without a file, where they arrive protected. Stops before a page
  // that is there already, and returns how many bytes came in.
  std::uint64_t fill(AddressRange holes, const std::byte* bytes) const;
  // A part of a mapping that was just made, and filled with the pages in `stored`: from now on only what is written
  // after this is reported. Where it fails, all of it is.
  Result<void> begin_known(int pagemap_fd, const Mapping& mapping, AddressRange part, const PageMap& stored);

 private:
  enum class Mode { kMixed, kDense, kSparse };
  struct Span {
    AddressRange range;
    Mode mode = Mode::kMixed;
    std::size_t first = 0;  // indices into the mapping list
    std::size_t last = 0;
  };

  Mode mode_of(const Mapping& mapping) const;
  void note_density(const Mapping& mapping, std::uint64_t filled_bytes);
  std::vector<Span> spans(const MappingList& mappings, AddressRange excluded) const;
  Result<void> look_at(int pagemap_fd, const MappingList& mappings, const Span& span, const PageMap& stored,
                       std::vector<ChangedRun>& runs);
  Result<void> scan_span(int pagemap_fd, const MappingList& mappings, const Span& span, const PageMap& stored,
                         std::vector<ChangedRun>& runs);
  Result<void> scan_dense(int pagemap_fd, const MappingList& mappings, const Span& span, const PageMap& stored,
                          std::vector<ChangedRun>& runs);
  Result<void> refine(int pagemap_fd, const MappingList& mappings, AddressRange written, std::vector<ChangedRun>& runs);
  Result<void> scan_fresh(int pagemap_fd, const Mapping& mapping, std::vector<ChangedRun>& runs);
  Result<void> list_all(int pagemap_fd, const Span& span, const PageMap& stored, std::vector<ChangedRun>& runs) const;

  UniqueFd userfaultfd_;
  bool looked_ = false;                   // before, all mappings are new
  std::set<std::uint64_t> dense_starts_;  // large mappings found well filled when they were first seen
};

}  // namespace deltabox

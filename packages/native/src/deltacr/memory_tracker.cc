#include "deltacr/memory_tracker.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>

#include "deltacr/address_space.h"
#include "sys/kernel_abi.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

constexpr std::uint64_t kSparseMinBytes = 256u << 10;    // a smaller hole is cheap enough to mark
constexpr std::uint64_t kDenseUnaskedBytes = 64u << 20;  // up to here holes are cheap enough to mark
constexpr std::uint64_t kRefineFromPages = 16;           // longer written runs are asked what of them is present
// A walk over so many dense pages costs as much as one more system call.
constexpr std::uint64_t kPagesPerCall = 400;
constexpr std::uint64_t kMarkerGapBytes = 25 * kPageSize;  // the slow walk over so many costs as much as a call
// A walk of a mixed mapping costs as much as so many calls.
constexpr std::size_t kRunsProtectedSingly = 40;
constexpr std::size_t kRegionsPerScan = 2048;

struct Masks {
  std::uint64_t inverted = 0;
  std::uint64_t required = 0;
  std::uint64_t any_of = 0;
  std::uint64_t returned = 0;
};

// Pages of the address space's own: anonymous ones, in memory or swapped out. A write-protect marker in a hole of a
// file mapping says "swapped" too. Unwritten ones are asked for as well: what was stored and is missing here was
// dropped.
constexpr Masks kOwnPages{abi::kPageIsFile, abi::kPageIsFile, abi::kPageIsPresent | abi::kPageIsSwapped,
                          abi::kPageIsWritten | abi::kPageIsPresent | abi::kPageIsSwapped};
// In a mapping without a file all are its own; not to ask for "file" spares the walk a look at every page's descriptor.
constexpr Masks kMemoryPages{0, 0, abi::kPageIsPresent | abi::kPageIsSwapped,
                             abi::kPageIsWritten | abi::kPageIsPresent | abi::kPageIsSwapped};
constexpr Masks kOwnWrittenPages{abi::kPageIsFile, abi::kPageIsFile | abi::kPageIsWritten,
                                 abi::kPageIsPresent | abi::kPageIsSwapped, abi::kPageIsWritten};
constexpr Masks kDenseMasks{0, abi::kPageIsWritten, 0, abi::kPageIsWritten};
// Protected, and not in memory: swapped out, or the marker that a hole of a file mapping carries.
constexpr Masks kMarkers{abi::kPageIsWritten, abi::kPageIsWritten | abi::kPageIsSwapped, 0, abi::kPageIsSwapped};

const Masks& masks_for(const Mapping& mapping) { return mapping.has_file() ? kOwnPages : kMemoryPages; }

// Calls visit(region) for all regions of the range. Fails with os_errno EPERM at a mapping that is not registered when
// `check` is set.
template <typename Visit>
Result<void> scan(int pagemap_fd, AddressRange range, const Masks& masks, bool check, Visit visit) {
  static thread_local std::vector<abi::PageRegion> regions(kRegionsPerScan);
  std::uint64_t start = range.start;
  std::uint64_t seen = range.start;  // a full buffer may end inside a region, which the next call then tells again
  while (start < range.end) {
    abi::PmScanArg argument{};
    argument.size = sizeof argument;
    argument.flags = check ? abi::kPmScanCheckWpAsync : 0;
    argument.start = start;
    argument.end = range.end;
    argument.vec = reinterpret_cast<std::uint64_t>(regions.data());
    argument.vec_len = regions.size();
    argument.category_inverted = masks.inverted;
    argument.category_mask = masks.required;
    argument.category_anyof_mask = masks.any_of;
    argument.return_mask = masks.returned;
    const int count = ::ioctl(pagemap_fd, abi::kPagemapScan, &argument);
    if (count < 0) return os_error("PAGEMAP_SCAN");
    for (int index = 0; index < count; ++index) {
      abi::PageRegion region = regions[static_cast<std::size_t>(index)];
      region.start = std::max(region.start, seen);
      if (region.start >= region.end) continue;
      seen = region.end;
      visit(region);
    }
    if (argument.walk_end <= start) return make_error(Code::kInternal, "PAGEMAP_SCAN does not advance");
    start = argument.walk_end;
  }
  return {};
}

Result<void> protect_range(int pagemap_fd, AddressRange range, const Masks& masks) {
  abi::PmScanArg argument{};
  argument.size = sizeof argument;
  argument.flags = abi::kPmScanCheckWpAsync | abi::kPmScanWpMatching;
  argument.start = range.start;
  argument.end = range.end;
  argument.category_inverted = masks.inverted;
  argument.category_mask = masks.required;
  argument.category_anyof_mask = masks.any_of;
  argument.return_mask = masks.returned;
  if (::ioctl(pagemap_fd, abi::kPagemapScan, &argument) < 0) return os_error("PAGEMAP_SCAN", "protect");
  return {};
}

// Adds the range as `dropped` runs and present runs, given what of it has contents, in order.
void split_by_contents(AddressRange range, const std::vector<AddressRange>& contents, std::vector<ChangedRun>& runs) {
  std::uint64_t cursor = range.start;
  for (const AddressRange& part : contents) {
    if (part.start > cursor) runs.push_back({{cursor, part.start}, true});
    runs.push_back({part, false});
    cursor = part.end;
  }
  if (cursor < range.end) runs.push_back({{cursor, range.end}, true});
}

// `masks`: kOwnPages, or kMemoryPages where no file is mapped.
Result<std::vector<AddressRange>> contents_of(int pagemap_fd, AddressRange range, const Masks& masks) {
  std::vector<AddressRange> contents;
  TRY(scan(pagemap_fd, range, masks, false, [&](const abi::PageRegion& region) {
    contents.push_back({region.start, region.end});
  }));
  return contents;
}

// Finds stored pages that the range no longer holds. An anonymous hole is a dropped page. In a file mapping a drop
// leaves a marker that can't be told from a swapped page, so such a page is read again, whatever it is.
void add_dropped(const MappingList& mappings, AddressRange range, const std::vector<abi::PageRegion>& own,
                 const PageMap& stored, std::vector<ChangedRun>& runs) {
  std::size_t region = 0;
  const Mapping* mapping = nullptr;
  stored.for_each(range.start >> kPageShift, range.end >> kPageShift, [&](PageNumber page, PageId) {
    const std::uint64_t address = page << kPageShift;
    while (region < own.size() && own[region].end <= address) ++region;
    const bool listed = region < own.size() && own[region].start <= address;
    if (listed && (own[region].categories & (abi::kPageIsPresent | abi::kPageIsWritten)) != 0) return;
    if (mapping == nullptr || !mapping->range.contains(address)) mapping = find_mapping(mappings, address);
    if (mapping == nullptr) return;  // unmapped since; the capture compares the lists of mappings
    if (mapping->has_file()) {
      runs.push_back({{address, address + kPageSize}, false});
    } else if (!listed) {
      runs.push_back({{address, address + kPageSize}, true});
    }
  });
}

}  // namespace

Result<MemoryTracker> MemoryTracker::create(parasite::Session& session, const parasite::Site& site, int pidfd) {
  parasite::Call make = parasite::make_call(SYS_userfaultfd, O_CLOEXEC | abi::kUffdUserModeOnly);
  TRY(session.run(site, {&make, 1}));
  if (make.result < 0) {
    Error error = os_error_from(static_cast<int>(-make.result), "userfaultfd in a tracee");
    error.next_step =
        "Run `deltabox doctor`: userfaultfd must be allowed (a seccomp filter around the sandbox may deny it).";
    return error;
  }
  const int remote_fd = static_cast<int>(make.result);
  Result<UniqueFd> taken = sys::pidfd_get_fd(pidfd, remote_fd);
  parasite::Call close = parasite::make_call(SYS_close, static_cast<std::uint64_t>(remote_fd));
  TRY(session.run(site, {&close, 1}));
  MemoryTracker tracker;
  tracker.userfaultfd_ = TRY(std::move(taken));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = abi::kUffdFeatureWpAsync | abi::kUffdFeatureWpUnpopulated;
  if (::ioctl(tracker.userfaultfd_.get(), UFFDIO_API, &api) != 0) {
    Error error = os_error("UFFDIO_API", "asynchronous write protection");
    error.code = Code::kUnsupportedKernel;
    error.next_step = "DeltaBox needs Linux 6.13 or later.";
    return error;
  }
  return tracker;
}

MemoryTracker::Mode MemoryTracker::mode_of(const Mapping& mapping) const {
  const std::uint64_t size_bytes = mapping.range.size_bytes();
  if (mapping.has_file()) return size_bytes <= kDenseUnaskedBytes ? Mode::kDense : Mode::kMixed;
  if (size_bytes < kSparseMinBytes) return Mode::kDense;
  if (mapping.protection == PROT_NONE) return Mode::kSparse;
  if (size_bytes <= kDenseUnaskedBytes || dense_starts_.contains(mapping.range.start)) return Mode::kDense;
  return Mode::kSparse;
}

// Runs of dense mappings are joined across holes in the address space (a walk skips those), not across mappings that
// can't be registered.
std::vector<MemoryTracker::Span> MemoryTracker::spans(const MappingList& mappings, AddressRange excluded) const {
  std::vector<Span> result;
  bool joinable = false;
  for (std::size_t index = 0; index < mappings.size(); ++index) {
    const Mapping& mapping = mappings[index];
    if (!mapping.is_private_memory() || mapping.range == excluded) {
      joinable = false;
      continue;
    }
    const Mode mode = mode_of(mapping);
    if (joinable && mode == Mode::kDense) {
      result.back().range.end = mapping.range.end;
      result.back().last = index;
    } else {
      result.push_back({mapping.range, mode, index, index});
    }
    joinable = mode == Mode::kDense;
  }
  return result;
}

Result<void> MemoryTracker::register_range(AddressRange range) {
  uffdio_register request{};
  request.range.start = range.start;
  request.range.len = range.size_bytes();
  request.mode = UFFDIO_REGISTER_MODE_WP;
  if (::ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &request) != 0) return os_error("UFFDIO_REGISTER");
  return {};
}

// What "written" means depends on the mapping: of a file's pages only the process's own copies count.
Result<void> MemoryTracker::refine(int pagemap_fd, const MappingList& mappings, AddressRange written,
                                   std::vector<ChangedRun>& runs) {
  while (written.start < written.end) {
    const Mapping* mapping = find_mapping(mappings, written.start);
    if (mapping == nullptr) return make_error(Code::kInternal, "a written page lies in no mapping");
    const AddressRange part{written.start, std::min(written.end, mapping->range.end)};
    if (!mapping->has_file() && part.page_count() < kRefineFromPages) {
      runs.push_back({part, false});  // a dropped page reads as zeros, which is what it holds
    } else {
      split_by_contents(part, TRY(contents_of(pagemap_fd, part, masks_for(*mapping))), runs);
    }
    written.start = part.end;
  }
  return {};
}

Result<void> MemoryTracker::scan_dense(int pagemap_fd, const MappingList& mappings, const Span& span,
                                       const PageMap& stored, std::vector<ChangedRun>& runs) {
  const std::size_t before = runs.size();
  std::vector<AddressRange> found;
  TRY(scan(pagemap_fd, span.range, kDenseMasks, true, [&](const abi::PageRegion& region) {
    found.push_back({region.start, region.end});
  }));
  for (const AddressRange& part : found) TRY(refine(pagemap_fd, mappings, part, runs));
  // A page of a file mapping's own that was dropped while it was protected leaves a marker, which is not "written". The
  // walk for markers is the slow one, so it goes where pages of these mappings are stored, and nowhere else.
  const std::size_t written = runs.size();
  std::vector<AddressRange> own;
  for (std::size_t index = span.first; index <= span.last; ++index) {
    const Mapping& mapping = mappings[index];
    if (!mapping.has_file()) continue;
    stored.for_each(mapping.range.start >> kPageShift, mapping.range.end >> kPageShift, [&](PageNumber page, PageId) {
      const std::uint64_t address = page << kPageShift;
      if (own.empty() || address - own.back().end > kMarkerGapBytes) own.push_back({address, address});
      own.back().end = address + kPageSize;
    });
  }
  found.clear();
  for (const AddressRange& range : own) {
    TRY(scan(pagemap_fd, range, kMarkers, true, [&](const abi::PageRegion& region) {
      found.push_back({region.start, region.end});
    }));
  }
  for (const AddressRange& part : found) {
    stored.for_each(part.start >> kPageShift, part.end >> kPageShift, [&](PageNumber page, PageId) {
      const std::uint64_t address = page << kPageShift;
      const Mapping* mapping = find_mapping(mappings, address);
      // It can't be told from a page that was swapped out, so it is read again, whatever it is.
      if (mapping != nullptr && mapping->has_file()) runs.push_back({{address, address + kPageSize}, false});
    });
  }
  if (runs.size() > written) {
    std::sort(runs.begin() + static_cast<long>(before), runs.end(),
              [](const ChangedRun& a, const ChangedRun& b) { return a.range.start < b.range.start; });
  }
  return {};
}

Result<void> MemoryTracker::scan_span(int pagemap_fd, const MappingList& mappings, const Span& span,
                                      const PageMap& stored, std::vector<ChangedRun>& runs) {
  if (span.mode == Mode::kDense) return scan_dense(pagemap_fd, mappings, span, stored, runs);
  const std::size_t before = runs.size();
  std::vector<abi::PageRegion> own;
  TRY(scan(pagemap_fd, span.range, masks_for(mappings[span.first]), true, [&](const abi::PageRegion& region) {
    own.push_back(region);
    if ((region.categories & abi::kPageIsWritten) != 0) runs.push_back({{region.start, region.end}, false});
  }));
  const std::size_t written = runs.size();
  add_dropped(mappings, span.range, own, stored, runs);
  if (runs.size() > written) {
    std::sort(runs.begin() + static_cast<long>(before), runs.end(),
              [](const ChangedRun& a, const ChangedRun& b) { return a.range.start < b.range.start; });
  }
  return {};
}

void MemoryTracker::note_density(const Mapping& mapping, std::uint64_t filled_bytes) {
  dense_starts_.erase(mapping.range.start);
  if (filled_bytes * 4 >= mapping.range.size_bytes()) dense_starts_.insert(mapping.range.start);
}

Result<void> MemoryTracker::scan_fresh(int pagemap_fd, const Mapping& mapping, std::vector<ChangedRun>& runs) {
  TRY(register_range(mapping.range));
  const std::vector<AddressRange> contents = TRY(contents_of(pagemap_fd, mapping.range, masks_for(mapping)));
  std::uint64_t filled = 0;
  for (const AddressRange& part : contents) filled += part.size_bytes();
  note_density(mapping, filled);
  split_by_contents(mapping.range, contents, runs);
  return {};
}

Result<void> MemoryTracker::list_all(int pagemap_fd, const Span& span, const PageMap& stored,
                                     std::vector<ChangedRun>& runs) const {
  const auto begin = static_cast<std::ptrdiff_t>(runs.size());
  const std::vector<AddressRange> contents = TRY(contents_of(pagemap_fd, span.range, kOwnPages));
  auto part = contents.begin();
  stored.for_each(span.range.start >> kPageShift, span.range.end >> kPageShift, [&](PageNumber page, PageId) {
    const std::uint64_t address = page << kPageShift;
    while (part != contents.end() && part->end <= address) ++part;
    if (part == contents.end() || address < part->start) runs.push_back({{address, address + kPageSize}, true});
  });
  for (const AddressRange& range : contents) runs.push_back({range, false});
  std::sort(runs.begin() + begin, runs.end(),
            [](const ChangedRun& a, const ChangedRun& b) { return a.range.start < b.range.start; });
  return {};
}

// Something in a span that is refused is new; halves find out what.
Result<void> MemoryTracker::look_at(int pagemap_fd, const MappingList& mappings, const Span& span,
                                    const PageMap& stored, std::vector<ChangedRun>& runs) {
  const bool is_one = span.first == span.last;
  if (looked_ || is_one) {
    const std::size_t before = runs.size();
    Result<void> scanned = scan_span(pagemap_fd, mappings, span, stored, runs);
    if (scanned.ok() || scanned.error().os_errno != EPERM) return scanned;
    runs.resize(before);
    if (is_one) return scan_fresh(pagemap_fd, mappings[span.first], runs);
  }
  const std::size_t middle = span.first + (span.last - span.first) / 2;
  const Span low{{span.range.start, mappings[middle].range.end}, span.mode, span.first, middle};
  const Span high{{mappings[middle + 1].range.start, span.range.end}, span.mode, middle + 1, span.last};
  TRY(look_at(pagemap_fd, mappings, low, stored, runs));
  return look_at(pagemap_fd, mappings, high, stored, runs);
}

Result<std::vector<ChangedRun>> MemoryTracker::changes(int pagemap_fd, const MappingList& mappings,
                                                       AddressRange excluded, const PageMap& stored) {
  std::vector<ChangedRun> runs;
  for (const Span& span : spans(mappings, excluded)) {
    TRY(compares() ? list_all(pagemap_fd, span, stored, runs) : look_at(pagemap_fd, mappings, span, stored, runs));
  }
  looked_ = true;
  return runs;
}

Result<void> MemoryTracker::protect(int pagemap_fd, const MappingList& mappings, AddressRange excluded,
                                    const std::vector<ChangedRun>& runs) {
  if (compares()) return {};
  std::size_t first = 0;
  for (const Span& span : spans(mappings, excluded)) {
    while (first < runs.size() && runs[first].range.end <= span.range.start) ++first;
    std::size_t last = first;
    while (last < runs.size() && runs[last].range.start < span.range.end) ++last;
    if (span.mode != Mode::kDense && last - first > kRunsProtectedSingly) {
      TRY(protect_range(pagemap_fd, span.range, kOwnWrittenPages));
      first = last;
      continue;
    }
    const Masks& masks = span.mode == Mode::kDense ? kDenseMasks : kOwnWrittenPages;
    const std::uint64_t bridged_bytes = span.mode == Mode::kDense ? kPagesPerCall * kPageSize : 0;
    while (first < last) {
      AddressRange range = runs[first++].range;
      // What lies between two runs of a dense span is protected already.
      while (first < last && runs[first].range.start - range.end <= bridged_bytes) range.end = runs[first++].range.end;
      range = {std::max(range.start, span.range.start), std::min(range.end, span.range.end)};
      TRY(protect_range(pagemap_fd, range, masks));
    }
  }
  return {};
}

std::uint64_t MemoryTracker::fill(AddressRange holes, const std::byte* bytes) const {
  std::uint64_t filled = 0;
  while (filled < holes.size_bytes()) {
    uffdio_copy copy{};
    copy.dst = holes.start + filled;
    copy.src = reinterpret_cast<std::uint64_t>(bytes + filled);
    copy.len = holes.size_bytes() - filled;
    copy.mode = UFFDIO_COPY_MODE_DONTWAKE | UFFDIO_COPY_MODE_WP;
    const bool is_done = ::ioctl(userfaultfd_.get(), UFFDIO_COPY, &copy) == 0;
    if (copy.copy > 0) filled += static_cast<std::uint64_t>(copy.copy);
    if (!is_done && (errno != EAGAIN || copy.copy <= 0)) break;
  }
  return filled;
}

Result<void> MemoryTracker::begin_known(int pagemap_fd, const Mapping& mapping, AddressRange part,
                                        const PageMap& stored) {
  if (compares()) return {};
  TRY(register_range(part));
  std::uint64_t filled = 0;
  stored.for_each(mapping.range.start >> kPageShift, mapping.range.end >> kPageShift,
                  [&](PageNumber, PageId) { filled += kPageSize; });
  note_density(mapping, filled);
  return protect_range(pagemap_fd, part, mode_of(mapping) == Mode::kDense ? kDenseMasks : kOwnWrittenPages);
}

}  // namespace deltabox

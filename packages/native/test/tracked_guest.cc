#include "tracked_guest.h"

#include <unistd.h>

#include "parasite/session.h"
#include "sys/processes.h"

namespace deltabox::test {

namespace {

// Bits of an entry of /proc/PID/pagemap. The bit for "swapped" is no help: it is also set for write-protect markers,
// which hold nothing, and the few pages of a guest are not swapped out within a test.
constexpr std::uint64_t kPresent = std::uint64_t{1} << 63;
constexpr std::uint64_t kFileOrShared = std::uint64_t{1} << 61;

}  // namespace

void TrackedGuest::track(HostTid pid, LiveProcess& process) {
  Freeze frozen = freeze();
  process.pid = pid;
  process.files = ProcessFiles(guest.proc_fd(), pid);
  process.inside = InsidePid{pid.value};
  process.incarnation = static_cast<Incarnation>(pid.value);
  process.pidfd = must(sys::pidfd_open(pid));
  const auto list = mappings(pid);
  const auto vdso =
      std::find_if(list->begin(), list->end(), [](const Mapping& mapping) { return mapping.name == "[vdso]"; });
  REQUIRE(vdso != list->end());
  process.site.vdso_syscall = RemoteAddress{vdso->range.start + must(parasite::vdso_syscall_offset())};
  parasite::Session session = must(parasite::Session::begin(pid));
  must(session.install(process.site, kParasiteAddress));
  process.tracker = must(MemoryTracker::create(session, process.site, process.pidfd.get()));
  must(session.finish());
}

std::vector<ChangedRun> TrackedGuest::look(LiveProcess& process) {
  const Freeze frozen = freeze();
  const UniqueFd map = pagemap(process.pid);
  const auto list = mappings(process.pid);
  std::vector<ChangedRun> runs =
      must(process.tracker->changes(map.get(), *list, parasite_range(process), process.pages));
  must(process.tracker->protect(map.get(), *list, parasite_range(process), runs));
  // The tracker finds dropped pages by what is held; which bytes is all one to it.
  std::vector<PageUpdate> held;
  for (const ChangedRun& run : runs) {
    const PageNumber first = run.range.start >> kPageShift;
    const PageNumber last = run.range.end >> kPageShift;
    if (run.dropped) {
      process.pages.for_each(first, last, [&](PageNumber number, PageId) { held.push_back({number, std::nullopt}); });
    } else {
      for (PageNumber number = first; number < last; ++number) held.push_back({number, kZeroPage});
    }
  }
  process.pages = PageMap::updated(process.pages, held, store);
  return runs;
}

Snapshot read_snapshot(const TrackedGuest& tracked, HostTid pid, std::uint64_t max_mapping_bytes) {
  Snapshot snapshot;
  const UniqueFd memory = must(sys::open_at(tracked.guest.proc_fd(), std::to_string(pid.value) + "/mem", O_RDONLY));
  const UniqueFd map = tracked.pagemap(pid);
  const std::string zeros(kPageSize, '\0');
  const auto mappings = tracked.mappings(pid);
  for (const Mapping& mapping : *mappings) {
    if (!mapping.is_private_memory() || mapping.range.size_bytes() > max_mapping_bytes) continue;
    if (mapping.range.start == kParasiteAddress.value) continue;
    std::vector<std::uint64_t> entries(mapping.range.page_count());
    const auto bytes = static_cast<ssize_t>(entries.size() * sizeof entries[0]);
    const PageNumber first = mapping.range.start >> kPageShift;
    REQUIRE(::pread(map.get(), entries.data(), static_cast<std::size_t>(bytes), static_cast<off_t>(first * 8)) ==
            bytes);
    for (std::size_t index = 0; index < entries.size(); ++index) {
      if ((entries[index] & kPresent) == 0 || (entries[index] & kFileOrShared) != 0) continue;
      std::string contents(kPageSize, '\0');
      const auto address = static_cast<off_t>((first + index) << kPageShift);
      REQUIRE(::pread(memory.get(), contents.data(), kPageSize, address) == static_cast<ssize_t>(kPageSize));
      if (contents != zeros) snapshot.emplace(first + index, std::move(contents));
    }
  }
  return snapshot;
}

std::set<PageNumber> pages_in(const std::vector<ChangedRun>& runs, std::uint64_t start, std::uint64_t size_bytes) {
  std::set<PageNumber> found;
  for (const ChangedRun& run : runs) {
    const std::uint64_t first = std::max(run.range.start, start);
    const std::uint64_t last = std::min(run.range.end, start + size_bytes);
    for (std::uint64_t address = first; address < last; address += kPageSize) found.insert(address >> kPageShift);
  }
  return found;
}

}  // namespace deltabox::test

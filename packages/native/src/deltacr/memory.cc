#include "deltacr/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/side_by_side.h"
#include "deltacr/address_space.h"
#include "sys/files.h"
#include "sys/processes.h"

namespace deltabox {

namespace {

constexpr std::size_t kMaxIovBytes =
    1u << 20;  // one run of neighbours at most, so that short transfers stay cheap to redo
constexpr std::size_t kPagesFetchedAtOnce = 512;
constexpr std::size_t kRunsWrittenAtOnce = 16;

alignas(kPageSize) const std::byte kZeros[kPageSize] = {};

// Pairs of local and remote ranges of equal length; neighbours on both sides are joined.
class TransferList {
 public:
  void add(std::byte* local, std::uint64_t remote) {
    size_bytes_ += kPageSize;
    if (!local_.empty()) {
      iovec& last_local = local_.back();
      iovec& last_remote = remote_.back();
      if (static_cast<std::byte*>(last_local.iov_base) + last_local.iov_len == local &&
          reinterpret_cast<std::uint64_t>(last_remote.iov_base) + last_remote.iov_len == remote &&
          last_local.iov_len < kMaxIovBytes) {
        last_local.iov_len += kPageSize;
        last_remote.iov_len += kPageSize;
        return;
      }
    }
    local_.push_back({local, kPageSize});
    remote_.push_back({reinterpret_cast<void*>(remote), kPageSize});
  }
  std::uint64_t size_bytes() const { return size_bytes_; }
  const std::vector<iovec>& local() const { return local_; }
  const std::vector<iovec>& remote() const { return remote_; }

 private:
  std::uint64_t size_bytes_ = 0;
  std::vector<iovec> local_;
  std::vector<iovec> remote_;
};

// Most of the price of fresh memory is its faults, which the processors can share.
Result<void> write_side_by_side(HostTid pid, const TransferList& list) {
  const std::span<const iovec> local(list.local());
  const std::span<const iovec> remote(list.remote());
  return side_by_side(
      local.size(), kRunsWrittenAtOnce, threads_worth(list.size_bytes()), [&](std::size_t begin, std::size_t end) {
        return sys::write_remote_ranges(pid, local.subspan(begin, end - begin), remote.subspan(begin, end - begin));
      });
}

Result<UniqueFd> open_memory(int proc_fd, HostTid pid) {
  return sys::open_at(proc_fd, std::to_string(pid.value) + "/mem", O_RDWR);
}

bool is_zero(const std::byte* page) {
  std::uint64_t first;
  std::memcpy(&first, page, sizeof first);
  return first == 0 && std::memcmp(page, page + sizeof first, kPageSize - sizeof first) == 0;
}

// Erases what lies outside of today's private mappings, and what a new file or protection-less object replaced.
void erase_unmapped(const LiveProcess& live, const MappingList& now, std::vector<PageUpdate>& updates) {
  if (!live.mappings) return;
  for (const Mapping& before : *live.mappings) {
    if (!before.is_private_memory()) continue;
    std::uint64_t cursor = before.range.start;
    while (cursor < before.range.end) {
      const Mapping* covering = find_mapping(now, cursor);
      std::uint64_t end = before.range.end;
      if (covering != nullptr) {
        end = std::min(end, covering->range.end);
      } else {
        const auto next =
            std::lower_bound(now.begin(), now.end(), cursor,
                             [](const Mapping& mapping, std::uint64_t value) { return mapping.range.start < value; });
        if (next != now.end()) end = std::min(end, next->range.start);
      }
      if (covering == nullptr || !covering->is_private_memory()) {
        live.pages.for_each(cursor >> kPageShift, end >> kPageShift, [&](PageNumber page, PageId) {
          updates.push_back({page, std::nullopt});
        });
      }
      cursor = end;
    }
  }
}

Result<void> read_pages(int proc_fd, HostTid pid, const MappingList& mappings, std::span<const std::uint64_t> addresses,
                        const std::vector<PageId>& pages, PageStore& store) {
  TransferList plain;
  UniqueFd memory;
  const Mapping* mapping = nullptr;
  for (std::size_t index = 0; index < addresses.size(); ++index) {
    const std::uint64_t address = addresses[index];
    if (mapping == nullptr || !mapping->range.contains(address)) mapping = find_mapping(mappings, address);
    if (mapping != nullptr && (mapping->protection & PROT_READ) != 0) {
      plain.add(store.bytes(pages[index]), address);
      continue;
    }
    // process_vm_readv respects protections; /proc/PID/mem does not (FOLL_FORCE).
    if (!memory) memory = TRY(open_memory(proc_fd, pid));
    if (::pread(memory.get(), store.bytes(pages[index]), kPageSize, static_cast<off_t>(address)) !=
        static_cast<ssize_t>(kPageSize)) {
      return os_error("pread", "/proc/PID/mem");
    }
  }
  return sys::read_remote_ranges(pid, plain.local(), plain.remote());
}

// Forks the process where that is the smaller price, and keeps of `ranges` what the copy has.
std::vector<AddressRange> park(int proc_fd, const LiveProcess& live, const MappingList& mappings,
                               const std::vector<ChangedRun>& runs, parasite::Session& session,
                               MemoryCapture& capture) {
  std::vector<AddressRange> ranges = mappings_to_park(mappings, runs);
  const Mapping* vdso = find_mapping(mappings, live.site.vdso_syscall.value);
  if (ranges.empty() || vdso == nullptr) return {};
  Result<ParkedCopy> copy = ParkedCopy::make(proc_fd, session, live.site, vdso->range, ranges);
  // Where there is no room for one more process, the pause is the longer one.
  if (!copy.ok()) return {};
  capture.parked.emplace(copy.release_value());
  Result<std::vector<AddressRange>> kept = inherited(proc_fd, *capture.parked, std::move(ranges), runs);
  return kept.ok() ? kept.release_value() : std::vector<AddressRange>();
}

// Of a tracker that reports all pages: whether this is the one that was stored at the last look.
bool is_unchanged(const LiveProcess& live, const PageUpdate& update, const PageStore& store) {
  const std::optional<PageId> before = live.pages.find(update.page);
  if (!before) return false;
  if (*update.contents == kZeroPage || *before == kZeroPage) return *update.contents == *before;
  return std::memcmp(store.bytes(*before), store.bytes(*update.contents), kPageSize) == 0;
}

void drop_updates(const MemoryCapture& capture, PageStore& store) {
  for (const PageUpdate& update : capture.updates) {
    if (update.contents) store.drop_reference(*update.contents);
  }
}

// Where some pages can't be read (guard pages: madvise(2), MADV_GUARD_INSTALL, 6.13), one by one: those are left out.
Result<void> read_readable_pages(int proc_fd, HostTid pid, std::span<const std::uint64_t> addresses,
                                 const std::vector<PageId>& pages, PageStore& store, std::vector<bool>& unreadable) {
  const UniqueFd memory = TRY(open_memory(proc_fd, pid));
  for (std::size_t index = 0; index < addresses.size(); ++index) {
    const ssize_t count =
        ::pread(memory.get(), store.bytes(pages[index]), kPageSize, static_cast<off_t>(addresses[index]));
    if (count == static_cast<ssize_t>(kPageSize)) continue;
    if (count >= 0 || (errno != EIO && errno != EFAULT)) return os_error("pread", "/proc/PID/mem");
    unreadable[index] = true;
  }
  return {};
}

Result<void> copy_pages(int proc_fd, HostTid pid, const MappingList& mappings, std::span<const std::uint64_t> addresses,
                        PageStore& store, MemoryCapture& capture) {
  std::vector<PageId> pages;
  TRY(store.allocate(addresses.size(), pages));
  std::vector<bool> unreadable(addresses.size(), false);
  Result<void> outcome = read_pages(proc_fd, pid, mappings, addresses, pages, store);
  if (!outcome.ok() && (outcome.error().os_errno == EFAULT || outcome.error().os_errno == EIO)) {
    outcome = read_readable_pages(proc_fd, pid, addresses, pages, store, unreadable);
  }
  for (std::size_t index = 0; index < addresses.size(); ++index) {
    if (unreadable[index]) {
      store.drop_reference(pages[index]);
      ++capture.unreadable_pages;
    } else {
      capture.updates.push_back({addresses[index] >> kPageShift, pages[index]});
    }
  }
  return outcome;
}

// In pieces: the store makes room for one while the processor still has the last one's pages.
Result<void> fetch_parked(int proc_fd, const MappingList& mappings, PageStore& store, MemoryCapture& capture) {
  const std::span<const std::uint64_t> addresses = capture.parked_addresses;
  capture.updates.reserve(capture.updates.size() + addresses.size());
  for (std::size_t first = 0; first < addresses.size(); first += kPagesFetchedAtOnce) {
    const std::size_t count = std::min(kPagesFetchedAtOnce, addresses.size() - first);
    TRY(copy_pages(proc_fd, capture.parked->pid(), mappings, addresses.subspan(first, count), store, capture));
  }
  return {};
}

}  // namespace

AddressRange parasite_range(const LiveProcess& live) {
  return {live.site.mapping.value, live.site.mapping.value + parasite::kMappingBytes};
}

Result<std::vector<ChangedRun>> changed_runs(LiveProcess& live, const MappingList& mappings) {
  const int pagemap = TRY(live.files.get(ProcFile::kPageMap));
  return live.tracker->changes(pagemap, mappings, parasite_range(live), live.pages);
}

Result<MemoryCapture> capture_memory(int proc_fd, LiveProcess& live, std::shared_ptr<const MappingList> mappings,
                                     const std::vector<ChangedRun>& runs, PageStore& store, parasite::Session* session,
                                     MemoryTimes& times) {
  Stopwatch watch;
  const int pagemap = TRY(live.files.get(ProcFile::kPageMap));
  MemoryCapture capture;
  if (mappings != live.mappings) erase_unmapped(live, *mappings, capture.updates);
  std::vector<AddressRange> parked;
  if (session != nullptr) parked = park(proc_fd, live, *mappings, runs, *session, capture);
  auto parked_range = parked.begin();
  std::vector<std::uint64_t> addresses;
  for (const ChangedRun& run : runs) {
    if (run.dropped) {
      live.pages.for_each(run.range.start >> kPageShift, run.range.end >> kPageShift, [&](PageNumber page, PageId) {
        capture.updates.push_back({page, std::nullopt});
      });
      continue;
    }
    while (parked_range != parked.end() && parked_range->end <= run.range.start) ++parked_range;
    const bool is_parked = parked_range != parked.end() && parked_range->start <= run.range.start;
    std::vector<std::uint64_t>& those = is_parked ? capture.parked_addresses : addresses;
    for (std::uint64_t address = run.range.start; address < run.range.end; address += kPageSize)
      those.push_back(address);
  }
  capture.dirty_pages = addresses.size() + capture.parked_addresses.size();
  Result<void> copied = copy_pages(proc_fd, live.pid, *mappings, addresses, store, capture);
  if (!copied.ok()) {
    drop_updates(capture, store);
    return copied.release_error();
  }
  live.mappings = std::move(mappings);
  times.copy_us += watch.lap_us();
  Result<void> armed = live.tracker->protect(pagemap, *live.mappings, parasite_range(live), runs);
  times.scan_us += watch.lap_us();
  if (!armed.ok()) {
    // Some pages may be protected by now: what was read of them must not be lost.
    (void)enter_pages(proc_fd, live, std::move(capture), store);
    return armed.release_error();
  }
  return capture;
}

Result<std::uint64_t> enter_pages(int proc_fd, LiveProcess& live, MemoryCapture capture, PageStore& store) {
  Result<void> fetched = fetch_parked(proc_fd, *live.mappings, store, capture);
  if (!fetched.ok()) {
    drop_updates(capture, store);
    live.tracker.reset();  // as if it were seen for the first time
    return fetched.release_error();
  }
  std::uint64_t stored = 0;
  const bool compares = live.tracker->compares();
  std::erase_if(capture.updates, [&](PageUpdate& update) {
    if (!update.contents) return false;
    if (is_zero(store.bytes(*update.contents))) {
      store.drop_reference(*update.contents);
      update.contents = kZeroPage;
    }
    if (compares && is_unchanged(live, update, store)) {
      if (*update.contents != kZeroPage) store.drop_reference(*update.contents);
      return true;
    }
    if (*update.contents != kZeroPage) ++stored;
    return false;
  });
  // Erased ranges and written pages are disjoint: what is written now lies in a mapping of now.
  std::sort(capture.updates.begin(), capture.updates.end(),
            [](const PageUpdate& a, const PageUpdate& b) { return a.page < b.page; });
  live.pages = PageMap::updated(live.pages, capture.updates, store);
  return stored;
}

Result<std::vector<PageWrite>> fill_pages(const LiveProcess& live, const std::vector<AddressRange>& parts,
                                          const std::vector<PageWrite>& writes, const PageStore& store) {
  struct Run {
    AddressRange holes;
    const std::byte* bytes;
    std::size_t first;  // of the writes
  };
  std::vector<PageWrite> left;
  std::vector<Run> runs;
  std::uint64_t bytes = 0;
  auto part = parts.begin();
  for (std::size_t index = 0; index < writes.size(); ++index) {
    const PageWrite& write = writes[index];
    while (part != parts.end() && part->end <= write.address) ++part;
    if (part == parts.end() || !part->contains(write.address)) {
      left.push_back(write);
      continue;
    }
    const std::byte* contents = write.contents == kZeroPage ? kZeros : store.bytes(write.contents);
    Run* last = runs.empty() ? nullptr : &runs.back();
    const bool joins = last != nullptr && last->holes.end == write.address && last->holes.start >= part->start &&
                       last->bytes + last->holes.size_bytes() == contents && last->holes.size_bytes() < kMaxIovBytes;
    if (joins) {
      last->holes.end += kPageSize;
    } else {
      runs.push_back({{write.address, write.address + kPageSize}, contents, index});
    }
    bytes += kPageSize;
  }
  std::mutex leaving;
  TRY(side_by_side(runs.size(), kRunsWrittenAtOnce, threads_worth(bytes), [&](std::size_t begin, std::size_t end) {
    for (std::size_t index = begin; index < end; ++index) {
      const Run& run = runs[index];
      std::uint64_t done = 0;
      while (done < run.holes.size_bytes()) {
        done += live.tracker->fill({run.holes.start + done, run.holes.end}, run.bytes + done);
        if (done == run.holes.size_bytes()) break;
        const std::scoped_lock lock(leaving);
        left.push_back(writes[run.first + done / kPageSize]);
        done += kPageSize;
      }
    }
    return Result<void>();
  }));
  std::sort(left.begin(), left.end(), [](const PageWrite& a, const PageWrite& b) { return a.address < b.address; });
  return left;
}

Result<void> write_pages(int proc_fd, HostTid pid, const MappingList& mappings, const std::vector<PageWrite>& writes,
                         const PageStore& store) {
  TransferList plain;
  UniqueFd memory;
  const Mapping* mapping = nullptr;
  for (const PageWrite& write : writes) {
    if (mapping == nullptr || !mapping->range.contains(write.address)) mapping = find_mapping(mappings, write.address);
    const std::byte* bytes = write.contents == kZeroPage ? kZeros : store.bytes(write.contents);
    if (mapping != nullptr && (mapping->protection & PROT_WRITE) != 0) {
      plain.add(const_cast<std::byte*>(bytes), write.address);
      continue;
    }
    if (!memory) memory = TRY(open_memory(proc_fd, pid));
    if (::pwrite(memory.get(), bytes, kPageSize, static_cast<off_t>(write.address)) !=
        static_cast<ssize_t>(kPageSize)) {
      return os_error("pwrite", "/proc/PID/mem");
    }
  }
  return write_side_by_side(pid, plain);
}

}  // namespace deltabox

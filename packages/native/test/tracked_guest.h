// A guest with the engine's bookkeeping of one process: parasite, tracker, stored pages.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "deltacr/address_space.h"
#include "deltacr/live_process.h"
#include "deltacr/memory.h"
#include "expect.h"
#include "guest.h"
#include "sys/files.h"
#include "tracee/freezer.h"

namespace deltabox::test {

inline constexpr RemoteAddress kParasiteAddress{0x3000'0000'0000};

class TrackedGuest {
 public:
  TrackedGuest() : freezer_(guest.proc_fd(), guest.root()) { track(guest.pid(), live); }

  // Installs parasite and tracker, as at the first sight of a process.
  void track(HostTid pid, LiveProcess& process);

  Freeze freeze() { return freeze_patiently(freezer_); }
  UniqueFd pagemap(HostTid pid) const {
    return must(sys::open_at(guest.proc_fd(), std::to_string(pid.value) + "/pagemap", O_RDONLY));
  }
  std::shared_ptr<const MappingList> mappings(HostTid pid) const {
    return must(list_mappings(guest.proc_fd(), pid, nullptr));
  }

  // One look of the tracker: what changed since the look before.
  std::vector<ChangedRun> look() { return look(live); }
  std::vector<ChangedRun> look(LiveProcess& process);

  // Brings live.pages up to date; the guest must be frozen.
  struct Captured {
    std::uint64_t dirty_pages = 0;
    std::uint64_t stored_pages = 0;
  };
  Captured capture() {
    MemoryCapture memory = read_memory(nullptr);
    const std::uint64_t dirty_pages = memory.dirty_pages;
    return {dirty_pages, must(enter(std::move(memory)))};
  }
  // Its two halves. With a session large deltas are parked, and the guest may run between them.
  MemoryCapture read_memory(parasite::Session* session) {
    MemoryTimes times;
    const auto now = must(list_mappings(live.files, live.mappings));
    const std::vector<ChangedRun> runs = must(changed_runs(live, *now));
    return must(capture_memory(guest.proc_fd(), live, now, runs, store, session, times));
  }
  Result<std::uint64_t> enter(MemoryCapture memory) {
    return enter_pages(guest.proc_fd(), live, std::move(memory), store);
  }

  Guest guest;
  PageStore store;
  LiveProcess live;

 private:
  Freezer freezer_;
};

// The independent reader: contents of all anonymous pages that are not zero, by page number, read through
// /proc/PID/mem. Pages that are not present are left alone, since reading would fault them in. Mappings beyond
// `max_mapping_bytes` (the sanitizers' shadow) and the parasite's are skipped.
using Snapshot = std::map<PageNumber, std::string>;
Snapshot read_snapshot(const TrackedGuest& tracked, HostTid pid, std::uint64_t max_mapping_bytes = 256u << 20);

// The pages of [start, start + size) that the runs name.
std::set<PageNumber> pages_in(const std::vector<ChangedRun>& runs, std::uint64_t start, std::uint64_t size_bytes);

}  // namespace deltabox::test

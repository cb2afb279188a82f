// A large delta need not be copied while the tasks stand still: the process is forked, and its child stands still in
// its stead. The kernel copies a page when the process writes to it; the engine reads the others out of the child after
// the thaw.
//
// The child holds nothing of the process but the memory that is to be read: its descriptors are closed, and everything
// else is unmapped. A process in between, which shares the address space, makes it and ends, so
// that the child is init's: the process itself can't wait for it, and gets no signal of its end.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "deltacr/image.h"
#include "deltacr/memory_tracker.h"
#include "parasite/session.h"

namespace deltabox {

// The mappings whose changed pages are worth a fork, in order of addresses; none when they hold less than 16 MiB of
// them together. Only anonymous memory: a file's pages that the process did not change are not its own.
std::vector<AddressRange> mappings_to_park(const MappingList& mappings, const std::vector<ChangedRun>& runs);

class ParkedCopy {
 public:
  // Of the frozen process behind the session. Of its memory `kept` stays (in order of addresses), and the vdso. Fails
  // with EAGAIN or ENOMEM where the sandbox has no room for one more process.
  static Result<ParkedCopy> make(int proc_fd, parasite::Session& session, const parasite::Site& site, AddressRange vdso,
                                 std::span<const AddressRange> kept);
  ParkedCopy(ParkedCopy&& other) noexcept : pid_(std::exchange(other.pid_, HostTid{0})) {}
  ParkedCopy& operator=(ParkedCopy&&) = delete;
  ParkedCopy(const ParkedCopy&) = delete;
  ParkedCopy& operator=(const ParkedCopy&) = delete;
  ~ParkedCopy();  // ends it; init collects it

  HostTid pid() const { return pid_; }

 private:
  explicit ParkedCopy(HostTid pid) : pid_(pid) {}
  HostTid pid_;
};

// Those of `ranges` whose pages the copy has: a process may keep memory from its children (MADV_DONTFORK,
// MADV_WIPEONFORK). `runs`: what has contents in the process.
Result<std::vector<AddressRange>> inherited(int proc_fd, const ParkedCopy& copy, std::vector<AddressRange> ranges,
                                            const std::vector<ChangedRun>& runs);

}  // namespace deltabox

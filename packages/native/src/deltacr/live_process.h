// What the engine keeps of a living process between calls: no open file description of its, only a pidfd, files of
// /proc, the userfaultfd that belongs to its address space, and what was last known of its memory.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/image.h"
#include "deltacr/memory_tracker.h"
#include "parasite/session.h"
#include "tracee/process_files.h"

namespace deltabox {

struct LiveProcess {
  Incarnation incarnation = 0;
  HostTid pid;
  InsidePid inside;
  UniqueFd pidfd;
  ProcessFiles files;
  parasite::Site site;
  std::optional<MemoryTracker> tracker;
  std::uint64_t address_space = 0;  // ProcessRegistry::new_address_space, when it is found to be another one (exec)
  std::shared_ptr<const ProgramImage> program;
  // The state at the last look: pages not reported as changed since are these.
  std::shared_ptr<const MappingList> mappings;
  PageMap pages;
};

class ProcessRegistry {
 public:
  // The record of a frozen process; a new incarnation when the pid was reused.
  Result<LiveProcess*> find_or_add(int proc_fd, HostTid pid);
  LiveProcess* find(Incarnation incarnation);
  // A process that the engine made to live the life of an earlier one.
  Result<LiveProcess*> revive(int proc_fd, HostTid pid, InsidePid inside, Incarnation incarnation);
  std::uint64_t new_address_space() { return ++address_spaces_; }
  // Why memory is compared instead of tracked (deltacr/memory_tracker.h); empty: it is tracked.
  const std::string& compares_because() const { return compares_because_; }
  void compare_because(const std::string& reason) { compares_because_ = reason; }
  // Forgets all that are not in `present`.
  void keep_only(const std::vector<HostTid>& present);

 private:
  std::map<HostTid, std::unique_ptr<LiveProcess>> processes_;
  Incarnation next_ = first_name();
  std::uint64_t address_spaces_ = first_name();
  std::string compares_because_;
};

}  // namespace deltabox

// Control groups that bound the tasks of one sandbox. The engine stays outside of them.
//
//   create (before the engine leaves the host's tree) → admit(init), before it executes → … → the engine ends
//
// The engine can't remove them: by then it has no path to them, and its tasks are still being taken down. A keeper,
// forked at creation, does: it waits for the end of a pipe that only the engine holds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

struct CgroupLimits {
  std::uint64_t memory_bytes = 0;  // with swap; 0: none
  double cpus = 0;                 // processors' worth of time; 0: none
};

struct CgroupUsage {
  std::uint64_t memory_bytes = 0;  // page cache included
  std::uint64_t oom_kills = 0;
};

class Cgroups {
 public:
  // UNSUPPORTED, naming what is missing, where this user may not make groups with the controllers that are needed.
  static Result<Cgroups> create(const CgroupLimits& limits, const std::string& name);

  // Puts a task and all that it will start into the groups. `task`: its id in the engine's own pid namespace.
  Result<void> admit(HostTid task) const;
  // nullopt without a memory limit.
  std::optional<CgroupUsage> usage() const;

 private:
  std::vector<UniqueFd> procs_;
  UniqueFd memory_usage_;
  UniqueFd memory_events_;
  UniqueFd lifeline_;
};

}  // namespace deltabox

// Files of /proc of one process, kept open between calls: to open one anew costs more than to read it.
//
// A file of /proc names its task for good, never another one that gets the number later. Those of its memory (mappings,
// page map) name the address space that they were opened with, which exec(2) replaces: PROCMAP_QUERY then says ESRCH,
// and forget_memory() is due.
#pragma once

#include <array>

#include "base/ids.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace deltabox {

enum class ProcFile { kMappings, kPageMap, kStatus, kTimers, kDescriptors, kOomScore };
inline constexpr std::size_t kProcFiles = 6;

class ProcessFiles {
 public:
  ProcessFiles() = default;
  ProcessFiles(int proc_fd, HostTid pid) : proc_fd_(proc_fd), pid_(pid) {}
  // Opens it at the first call; it stays this object's.
  Result<int> get(ProcFile file);
  void forget_memory();
  // Closes all.
  void forget();

 private:
  int proc_fd_ = -1;
  HostTid pid_;
  std::array<UniqueFd, kProcFiles> files_;
};

}  // namespace deltabox

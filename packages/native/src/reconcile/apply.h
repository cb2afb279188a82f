// Carries a plan out on frozen processes: memory, descriptors, signals, registers. It decides nothing; what the plan
// can't restore, and what the kernel refuses, comes back as notices.
//
// Order: shared memory that is made anew or has a descriptor; the tree's descriptors and pipes; terminals; process by
// process, working directory → rseq areas given up → break and mappings; shared memory that is only mapped; the tree's
// POSIX locks; process by process, dropped pages → attributes and signal queue → addresses that the kernel writes to →
// written pages → registers. Pages come after the last parasite run, since a run lets the kernel touch the thread's
// rseq area.
#pragma once

#include <functional>
#include <set>
#include <vector>

#include "base/result.h"
#include "deltacr/capture.h"
#include "deltacr/image.h"
#include "reconcile/plan.h"
#include "reconcile/terminal_io.h"

namespace deltabox {

// The engine's ends of the streams of commands, by the inodes that the streams had at the checkpoint.
struct BoundaryStreams {
  // The task's end, for a process that is made anew.
  std::function<Result<UniqueFd>(std::uint64_t inode)> open;
  // Whether our end is open, or closed, is as it was, if the stream is an input. `take`: a task's end of it.
  std::function<Result<void>(std::uint64_t inode, const RunningCommands& target,
                             const std::function<Result<UniqueFd>()>& take)>
      settle_input;
};

struct ApplyContext {
  int proc_fd = -1;
  int self_fd_dir = -1;
  int m1_root = -1;
  Freeze* freeze = nullptr;
  TreeCapture* capture = nullptr;
  PageStore* store = nullptr;
  SharedMemoryReader* shared_memory = nullptr;
  const BoundaryStreams* streams = nullptr;
  TerminalRoom* terminals = nullptr;
  // The next System V segment that a task makes gets this id.
  std::function<Result<void>(int id)> choose_next_segment;
};

struct ApplyOutcome {
  std::uint64_t written_pages = 0;
  std::vector<InsidePid> ended_processes;
  std::uint64_t ended_threads = 0;
  std::vector<InsidePid> restored_processes;  // made anew, or given their earlier program again
  std::uint64_t restored_threads = 0;         // of processes that lived on
  std::vector<Notice> not_restored;
};

// Ends processes and threads born since the checkpoint; zombies they leave are reaped by their parents.
Result<void> end_newborn(ApplyContext& context, const TreePlan& plan, const TreeImage& live, const TreeImage& target,
                         ApplyOutcome& outcome);

// Reconciles every process of the target. The volumes have been switched already; `switched` names them.
Result<void> apply_target(ApplyContext& context, const TreeImage& live, const TreeImage& target,
                          const std::set<int>& switched, ApplyOutcome& outcome);

}  // namespace deltabox

// Captures the process state of a frozen sandbox.
//
// The frozen processes stay "held" (their leaders' parasite sessions open) until release(), so that a checkpoint can
// move working directories and descriptors to the new overlays, and a rollback can reconcile, without a second set-up.
//
// What can't be captured at all fails the capture before anything changes (unsupported: a process with its own seccomp
// filter or an ignored SIGTRAP). What is captured in part is a warning.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "deltacr/deleted_files.h"
#include "deltacr/describe.h"
#include "deltacr/descriptors.h"
#include "deltacr/image.h"
#include "deltacr/live_process.h"
#include "deltacr/memory.h"
#include "deltacr/past_overlays.h"
#include "deltacr/shared_memory.h"
#include "deltacr/sockets.h"
#include "deltacr/terminals.h"
#include "pagestore/page_store.h"
#include "parasite/session.h"
#include "tracee/freezer.h"
#include "tracee/proc_files.h"

namespace deltabox {

struct CaptureTimes {
  double describe_us = 0;
  double scan_us = 0;
  double copy_us = 0;
};

struct CaptureResult {
  std::shared_ptr<TreeImage> image;
  std::vector<Notice> warnings;
  std::uint64_t dirty_pages = 0;
  std::uint64_t parked_pages = 0;  // of these, what enter_pages() is still to copy
  std::uint64_t threads = 0;
  CaptureTimes times;
};

// A frozen process with its leader's session.
struct HeldProcess {
  FrozenProcess* frozen = nullptr;
  LiveProcess* live = nullptr;
  parasite::Session session;
  // While it is being captured.
  std::shared_ptr<const MappingList> mappings;
  std::vector<ChangedRun> runs;
  DescribingTrip trip;
};

class TreeCapture {
 public:
  TreeCapture(int proc_fd, Freeze& freeze, ProcessRegistry& registry, PageStore& store, DescriptorReader& descriptors,
              DeletedFileReader& deleted_files, SharedMemoryReader& shared_memory, SocketReader& sockets,
              PastOverlays& overlays);

  ~TreeCapture();
  TreeCapture(const TreeCapture&) = delete;
  TreeCapture& operator=(const TreeCapture&) = delete;

  // From now on large deltas are not copied in run(), but by enter_pages(), from copies of the processes that stand
  // still meanwhile.
  void park_large_deltas() { parks_ = true; }
  // The image has no pages until enter_pages() is called.
  Result<CaptureResult> run(std::vector<VolumeView> volumes, const BoundaryPipes& boundary,
                            const TerminalTable& terminals);
  // Enters the pages that were read into the page maps of processes and image: work that a pause need not wait for.
  // Returns how many are stored. Without a call the destructor does it: what was read is not reported again. Fails only
  // for what was parked, for which the next look finds all of the process changed.
  Result<std::uint64_t> enter_pages();
  HeldProcess* find(Incarnation incarnation);
  int proc_fd() const { return proc_fd_; }
  // Valid until release().
  TerminalReader& terminals() { return terminals_; }
  // A frozen process that the engine made in the place of one of the target's, or a held one whose program it replaced:
  // holds it anew, with a parasite where `target` has nothing. capture_reborn() then describes it.
  Result<HeldProcess*> hold_reborn(FrozenProcess& frozen, const ProcessImage& target);
  Result<ProcessImage> capture_reborn(HeldProcess& held);
  // A process that the engine ended while it was held.
  void forget(Incarnation incarnation);
  // All held processes are about to be ended; nothing is put back.
  void abandon();
  // Puts registers and masks back.
  Result<void> release();

 private:
  Result<void> hold(FrozenProcess& frozen);
  Result<TaskStatus> check_supported(LiveProcess& live, const MappingList& mappings,
                                     std::vector<Notice>& warnings) const;
  Result<void> find_volumes(LiveProcess& live, std::shared_ptr<const MappingList>& mappings) const;
  Result<void> capture_processes(std::size_t first, std::size_t last, CaptureResult& result);
  std::uint64_t threads_worth_it(std::size_t first, std::size_t last) const;
  Result<ProcessImage> begin_process(HeldProcess& held, CaptureResult& result);
  Result<void> read_working_dir(ProcessImage& image, CaptureResult& result) const;
  Result<std::shared_ptr<const ProgramImage>> read_program_of(const LiveProcess& live) const;
  Result<void> read_memory(HeldProcess& held, std::size_t index, CaptureResult& result);
  Result<void> ensure_parasite(HeldProcess& held, std::shared_ptr<const MappingList>& mappings);
  // Into a fresh address space, where neither list has a mapping.
  Result<MemoryTracker> make_tracker(HeldProcess& held);
  Result<void> install_parasite(HeldProcess& held, const MappingList& live, const MappingList& target);

  int proc_fd_;
  Freeze& freeze_;
  ProcessRegistry& registry_;
  PageStore& store_;
  DescriptorReader& descriptors_;
  DeletedFileReader& deleted_files_;
  SharedMemoryReader& shared_memory_;
  SocketReader& sockets_;
  PastOverlays& overlays_;
  std::vector<VolumeView> volumes_;
  std::vector<HeldProcess> held_;
  TerminalReader terminals_;
  struct Unentered {
    LiveProcess* live;
    std::size_t index;  // in the image
    MemoryCapture memory;
  };
  std::vector<Unentered> unentered_;
  bool parks_ = false;
  std::shared_ptr<TreeImage> image_;
};

}  // namespace deltabox

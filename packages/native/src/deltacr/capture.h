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
#include "deltacr/descriptors.h"
#include "deltacr/image.h"
#include "deltacr/live_process.h"
#include "deltacr/shared_memory.h"
#include "pagestore/page_store.h"
#include "parasite/session.h"
#include "tracee/freezer.h"

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
  std::uint64_t stored_pages = 0;
  std::uint64_t threads = 0;
  CaptureTimes times;
};

// A frozen process with its leader's session.
struct HeldProcess {
  FrozenProcess* frozen = nullptr;
  LiveProcess* live = nullptr;
  parasite::Session session;
};

class TreeCapture {
 public:
  TreeCapture(int proc_fd, Freeze& freeze, ProcessRegistry& registry, PageStore& store, DescriptorReader& descriptors,
              DeletedFileReader& deleted_files, SharedMemoryReader& shared_memory);

  Result<CaptureResult> run(std::vector<VolumeView> volumes, const BoundaryPipes& boundary);
  std::vector<HeldProcess>& held() { return held_; }
  HeldProcess* find(Incarnation incarnation);
  // A process that the engine ended while it was held.
  void forget(Incarnation incarnation);
  // All held processes are about to be ended; nothing is put back.
  void abandon();
  // Puts registers and masks back.
  Result<void> release();

 private:
  Result<void> hold(FrozenProcess& frozen);
  Result<void> check_supported(const FrozenProcess& frozen, const LiveProcess& live, const MappingList& mappings,
                               ProcessImage& image, std::vector<Notice>& warnings);
  Result<void> find_volumes(HostTid pid, std::shared_ptr<const MappingList>& mappings) const;
  Result<void> capture_process(HeldProcess& held, CaptureResult& result);
  Result<void> ensure_parasite(HeldProcess& held, std::shared_ptr<const MappingList>& mappings);

  int proc_fd_;
  Freeze& freeze_;
  ProcessRegistry& registry_;
  PageStore& store_;
  DescriptorReader& descriptors_;
  DeletedFileReader& deleted_files_;
  SharedMemoryReader& shared_memory_;
  std::vector<VolumeView> volumes_;
  std::vector<HeldProcess> held_;
};

}  // namespace deltabox

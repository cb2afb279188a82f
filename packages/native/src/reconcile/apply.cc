#include "reconcile/apply.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "deltacr/address_space.h"
#include "deltacr/memory.h"
#include "reconcile/descriptor_io.h"
#include "reconcile/lock_io.h"
#include "reconcile/map_file.h"
#include "reconcile/plan_posix_timers.h"
#include "reconcile/posix_timer_io.h"
#include "reconcile/preview.h"
#include "reconcile/process_state.h"
#include "reconcile/remote_calls.h"
#include "reconcile/shared_memory_io.h"
#include "reconcile/tree_descriptors.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

// --- Mappings ---

// Returns the ranges that were mapped anew.
Result<std::vector<MapRange>> apply_mappings(ApplyContext& context, HeldProcess& held, const ProcessImage& live,
                                             const ProcessImage& target, const std::set<int>& switched,
                                             const std::set<SharedObjectId>& renewed, RevivedFiles& revived,
                                             ApplyOutcome& outcome) {
  std::shared_ptr<const MappingList> present = live.mappings;
  if (live.program_break != target.program_break) {
    Call call = make_call(SYS_brk, target.program_break.value);
    TRY(held.session.run(held.live->site, {&call, 1}));
    if (static_cast<std::uint64_t>(call.result) != target.program_break.value) {
      return make_error(Code::kInternal, "brk was refused in pid " + std::to_string(held.live->inside.value));
    }
    present = TRY(list_mappings(context.proc_fd, held.live->pid, present));
  }
  const bool moves = std::any_of(target.mappings->begin(), target.mappings->end(),
                                 [&](const Mapping& mapping) { return mapping.moves_with(switched, renewed); });
  if (present == target.mappings && !moves) return std::vector<MapRange>();
  const MappingPlan plan = plan_mappings(*present, *target.mappings, parasite_range(*held.live), switched, renewed);
  for (const Mapping& lost : plan.unrestorable) {
    outcome.not_restored.push_back(
        {held.live->inside.value, "shared-memory", lost.name + ": it was unmapped since the checkpoint"});
  }
  std::vector<Call> calls;
  for (const UnmapRange& part : plan.unmap)
    calls.push_back(make_call(SYS_munmap, part.range.start, part.range.size_bytes()));
  for (const ProtectRange& part : plan.protect) {
    calls.push_back(make_call(SYS_mprotect, part.range.start, part.range.size_bytes(),
                              static_cast<std::uint64_t>(part.protection)));
  }
  TRY(run_batched(held.session, held.live->site, calls));
  for (const Call& call : calls) {
    if (call.result < 0) return failed_call(held, "munmap or mprotect in a tracee", call);
  }
  // Descriptors are those of the target by now.
  for (const UnmappedPart& lost : TRY(map_anew(held, plan.map, context.m1_root, revived))) {
    if (lost.part.mapping.shared_object != 0) {
      outcome.not_restored.push_back(
          {held.live->inside.value, "shared-memory",
           lost.part.mapping.name + ": it was unmapped since the checkpoint, and " + lost.reason.describe()});
      Call unmap = make_call(SYS_munmap, lost.part.range.start, lost.part.range.size_bytes());
      TRY(held.session.run(held.live->site, {&unmap, 1}));
      continue;
    }
    outcome.not_restored.push_back({held.live->inside.value, "mapping",
                                    lost.part.mapping.name + ": " + lost.reason.describe() +
                                        "; what the process had written there is back, the rest reads as zeros"});
    MapRange substitute = lost.part;
    substitute.mapping.shared = false;
    substitute.mapping.inode = 0;
    TRY(map_anew(held, {substitute}, context.m1_root, revived));
  }
  return plan.map;
}

Result<void> drop_pages(HeldProcess& held, const std::vector<AddressRange>& drops) {
  std::vector<Call> calls;
  for (const AddressRange& range : drops) {
    calls.push_back(make_call(SYS_madvise, range.start, range.size_bytes(), MADV_DONTNEED));
  }
  TRY(run_batched(held.session, held.live->site, calls));
  for (const Call& call : calls) {
    if (call.result < 0) return failed_call(held, "madvise in a tracee", call);
  }
  return {};
}

// for them: memory without a file takes them. Everything is written again, since the runs for it come late.
Result<void> write_beyond_files(ApplyContext& context, HeldProcess& held, const ProcessImage& target,
                                const PagePlan& plan, ApplyOutcome& outcome) {
  std::vector<Call> calls;
  const Mapping* reported = nullptr;
  for (const PageWrite& page : plan.writes) {
    const Mapping* mapping = find_mapping(*target.mappings, page.address);
    if (mapping == nullptr || !mapping->has_file() || mapping->shared) continue;
    if (write_pages(context.proc_fd, held.live->pid, *target.mappings, {page}, *context.store).ok()) continue;
    calls.push_back(make_call(SYS_mmap, page.address, kPageSize, static_cast<std::uint64_t>(mapping->protection),
                              MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, static_cast<std::uint64_t>(-1), 0));
    if (std::exchange(reported, mapping) == mapping) continue;
    outcome.not_restored.push_back({held.live->inside.value, "mapping",
                                    mapping->name + ": its file ends before pages of which the process has copies of "
                                                    "its own; they are back, without the file"});
  }
  TRY(run_batched(held.session, held.live->site, calls));
  return write_pages(context.proc_fd, held.live->pid, *target.mappings, plan.writes, *context.store);
}

// Runs of pages that were written outside of these parts. Both are in order of addresses.
std::vector<ChangedRun> written_elsewhere(const std::vector<PageWrite>& writes, const std::vector<MapRange>& parts) {
  std::vector<ChangedRun> runs;
  auto part = parts.begin();
  for (const PageWrite& write : writes) {
    while (part != parts.end() && part->range.end <= write.address) ++part;
    if (part != parts.end() && part->range.contains(write.address)) continue;
    if (!runs.empty() && runs.back().range.end == write.address) {
      runs.back().range.end += kPageSize;
    } else {
      runs.push_back({{write.address, write.address + kPageSize}, false});
    }
  }
  return runs;
}

Result<void> apply_process_memory(ApplyContext& context, HeldProcess& held, const ProcessImage& target,
                                  const PagePlan& plan, const std::vector<MapRange>& remapped, bool mappings_changed,
                                  ApplyOutcome& outcome) {
  LiveProcess& live = *held.live;
  std::vector<AddressRange> fillable;
  for (const MapRange& part : remapped) {
    const bool is_memory = part.mapping.is_private_memory() && !part.mapping.has_file();
    if (is_memory && !live.tracker->compares() && live.tracker->register_range(part.range).ok())
      fillable.push_back(part.range);
  }
  const std::vector<PageWrite> left = TRY(fill_pages(live, fillable, plan.writes, *context.store));
  const Result<void> written = write_pages(context.proc_fd, live.pid, *target.mappings, left, *context.store);
  if (!written.ok()) {
    TRY(write_beyond_files(context, held, target, plan, outcome));
    mappings_changed = true;
  }
  live.pages = target.pages;
  live.mappings = mappings_changed ? TRY(list_mappings(context.proc_fd, live.pid, target.mappings)) : target.mappings;
  const int pagemap = TRY(live.files.get(ProcFile::kPageMap));
  for (const MapRange& part : remapped) {
    if (!part.mapping.is_private_memory()) continue;
    // Where it is refused, the next look finds all of it changed.
    (void)live.tracker->begin_known(pagemap, part.mapping, part.range, live.pages);
  }
  Result<void> armed =
      live.tracker->protect(pagemap, *live.mappings, parasite_range(live), written_elsewhere(plan.writes, remapped));
  if (!armed.ok() && armed.error().os_errno != EPERM) return armed;
  return {};
}

// Every lock goes before the first comes back, so that none is in another's way.
Result<void> apply_process_locks(ApplyContext& context, const TreeImage& live, const TreeImage& target,
                                 ApplyOutcome& outcome) {
  for (const ProcessImage& wanted : target.processes) {
    TRY(drop_process_locks(*context.capture->find(wanted.incarnation), live.find(wanted.incarnation)->locks));
  }
  for (const ProcessImage& wanted : target.processes) {
    const Result<void> locked = take_process_locks(*context.capture->find(wanted.incarnation), wanted.locks);
    if (!locked.ok()) {
      outcome.not_restored.push_back({wanted.pid.value, "lock", "a POSIX lock: " + locked.error().describe()});
    }
  }
  return {};
}

Result<void> apply_working_dirs(ApplyContext& context, const TreeImage& live, const TreeImage& target,
                                const std::set<int>& switched) {
  std::vector<WorkingDirChange> changes;
  for (const ProcessImage& wanted : target.processes) {
    if (wanted.working_dir_deleted) continue;
    const ProcessImage& present = *live.find(wanted.incarnation);
    if (present.working_dir != wanted.working_dir || present.working_dir_deleted ||
        switched.contains(wanted.working_dir_volume)) {
      changes.push_back({context.capture->find(wanted.incarnation), wanted.working_dir});
    }
  }
  return change_working_dirs(changes, context.m1_root);
}

}  // namespace

Result<void> apply_target(ApplyContext& context, const TreeImage& live, const TreeImage& target,
                          const std::set<int>& switched, ApplyOutcome& outcome) {
  RevivedFiles revived(target, context.m1_root);
  for (const ProcessImage& wanted : target.processes) {
    if (context.capture->find(wanted.incarnation) == nullptr || live.find(wanted.incarnation) == nullptr)
      return make_error(Code::kInternal, "a process of the target is not held");
  }
  const SharedMemoryPlan memory = plan_shared_memory(live, target, switched);
  TRY(prepare_shared_memory(context, memory, live, target, revived, outcome));
  TRY(apply_descriptors(context, live, target, switched, memory.renew, revived, outcome));
  TRY(context.terminals->restore(outcome.not_restored));
  TRY(apply_working_dirs(context, live, target, switched));
  std::map<Incarnation, std::vector<MapRange>> remapped;
  for (const ProcessImage& wanted : target.processes) {
    HeldProcess* held = context.capture->find(wanted.incarnation);
    const ProcessImage* present = live.find(wanted.incarnation);
    TRY(forget_rseq(*held, *present, wanted));
    remapped[wanted.incarnation] =
        TRY(apply_mappings(context, *held, *present, wanted, switched, memory.renew, revived, outcome));
  }
  TRY(finish_shared_memory(context, memory, live, target, revived, outcome));
  TRY(apply_process_locks(context, live, target, outcome));
  for (const ProcessImage& wanted : target.processes) {
    HeldProcess& held = *context.capture->find(wanted.incarnation);
    const ProcessImage& present = *live.find(wanted.incarnation);
    const PagePlan pages = plan_pages(present.pages, wanted.pages, *wanted.mappings, remapped.at(wanted.incarnation));
    TRY(drop_pages(held, pages.drops));
    TRY(apply_signals_and_attributes(context, held, present, wanted, outcome));
    // Once the signals of earlier expirations are gone.
    TRY(change_posix_timers(held, plan_posix_timers(present, wanted), outcome.not_restored));
    TRY(restore_kernel_pointers(held, present, wanted));
    const std::vector<Notice> lost = never_restored(wanted);
    outcome.not_restored.insert(outcome.not_restored.end(), lost.begin(), lost.end());
    outcome.written_pages += pages.writes.size();
    TRY(apply_process_memory(context, held, wanted, pages, remapped.at(wanted.incarnation),
                             present.mappings != wanted.mappings, outcome));
    TRY(apply_registers(held, present, wanted, context.freeze->timed_calls()));
  }
  return {};
}

}  // namespace deltabox

#include "reconcile/apply.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/side_by_side.h"
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

// What is too much goes. Returns the ranges that have to be mapped anew.
Result<std::vector<MapRange>> clear_mappings(ApplyContext& context, HeldProcess& held, const ProcessImage& live,
                                             const ProcessImage& target, const std::set<int>& switched,
                                             const std::set<SharedObjectId>& renewed, ApplyOutcome& outcome) {
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
  return plan.map;
}

Result<void> replace_unmapped(ApplyContext& context, HeldProcess& held, const std::vector<UnmappedPart>& failed,
                              RevivedFiles& revived, ApplyOutcome& outcome) {
  for (const UnmappedPart& lost : failed) {
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
  return {};
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

// Copies of pages that lie beyond the end of their file by now have no place in its mapping: memory without a file
// takes them. Everything is written again, since the runs for it come late.
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

// One process of the target, while it is put back.
struct ProcessWork {
  HeldProcess* held = nullptr;
  const ProcessImage* present = nullptr;
  const ProcessImage* wanted = nullptr;
  std::vector<MapRange> remapped;
  PagePlan pages;
  bool mappings_changed = false;
  bool lacks_pages = false;  // not all of `pages` could be written
};

// Runs on any thread, as do the two after it: nothing of it needs the one that traces.
Result<void> write_memory(const ApplyContext& context, ProcessWork& work) {
  LiveProcess& live = *work.held->live;
  std::vector<AddressRange> fillable;
  for (const MapRange& part : work.remapped) {
    const bool is_memory = part.mapping.is_private_memory() && !part.mapping.has_file();
    if (is_memory && !live.tracker->compares() && live.tracker->register_range(part.range).ok())
      fillable.push_back(part.range);
  }
  const std::vector<PageWrite> left = TRY(fill_pages(live, fillable, work.pages.writes, *context.store));
  work.lacks_pages = !write_pages(context.proc_fd, live.pid, *work.wanted->mappings, left, *context.store).ok();
  return {};
}

// The memory is the target's; from here on writes are noted.
Result<void> arm_tracker(const ApplyContext& context, ProcessWork& work) {
  LiveProcess& live = *work.held->live;
  const std::shared_ptr<const MappingList>& known = work.wanted->mappings;
  live.mappings = work.mappings_changed ? TRY(list_mappings(context.proc_fd, live.pid, known)) : known;
  const int pagemap = TRY(live.files.get(ProcFile::kPageMap));
  for (const MapRange& part : work.remapped) {
    if (!part.mapping.is_private_memory()) continue;
    // Where it is refused, the next look finds all of it changed.
    (void)live.tracker->begin_known(pagemap, part.mapping, part.range, live.pages);
  }
  Result<void> armed = live.tracker->protect(pagemap, *live.mappings, parasite_range(live),
                                             written_elsewhere(work.pages.writes, work.remapped));
  if (!armed.ok() && armed.error().os_errno != EPERM) return armed;
  return {};
}

Result<void> apply_memory(ApplyContext& context, std::vector<ProcessWork>& all, ApplyOutcome& outcome) {
  std::uint64_t mappings = 0;
  for (ProcessWork& work : all) {
    work.held->live->pages = work.wanted->pages;
    outcome.written_pages += work.pages.writes.size();
    mappings += work.wanted->mappings->size();
  }
  const auto work_on = [&](std::size_t begin, std::size_t end) -> Result<void> {
    for (std::size_t index = begin; index < end; ++index) {
      TRY(write_memory(context, all[index]));
      if (!all[index].lacks_pages) TRY(arm_tracker(context, all[index]));
    }
    return {};
  };
  TRY(side_by_side(all.size(), 1, mappings / kMappingsWorthAThread, work_on));
  for (ProcessWork& work : all) {
    if (!work.lacks_pages) continue;
    TRY(write_beyond_files(context, *work.held, *work.wanted, work.pages, outcome));
    work.mappings_changed = true;
    TRY(arm_tracker(context, work));
  }
  return {};
}

// Those of all processes side by side, once their descriptors are the target's.
Result<void> apply_mappings(ApplyContext& context, std::vector<ProcessWork>& all, const std::set<int>& switched,
                            const std::set<SharedObjectId>& renewed, RevivedFiles& revived, ApplyOutcome& outcome) {
  std::vector<Remapping> remappings;
  for (ProcessWork& work : all) {
    TRY(forget_rseq(*work.held, *work.present, *work.wanted));
    work.remapped = TRY(clear_mappings(context, *work.held, *work.present, *work.wanted, switched, renewed, outcome));
    if (!work.remapped.empty()) remappings.push_back({work.held, work.remapped, {}});
  }
  TRY(map_anew(remappings, context.m1_root, revived));
  for (const Remapping& remapping : remappings) {
    TRY(replace_unmapped(context, *remapping.held, remapping.failed, revived, outcome));
  }
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
  std::vector<ProcessWork> all;
  for (const ProcessImage& wanted : target.processes) {
    ProcessWork work;
    work.held = context.capture->find(wanted.incarnation);
    work.present = live.find(wanted.incarnation);
    work.wanted = &wanted;
    if (work.held == nullptr || work.present == nullptr)
      return make_error(Code::kInternal, "a process of the target is not held");
    work.mappings_changed = work.present->mappings != wanted.mappings;
    all.push_back(std::move(work));
  }
  const SharedMemoryPlan memory = plan_shared_memory(live, target, switched);
  TRY(prepare_shared_memory(context, memory, live, target, revived, outcome));
  TRY(apply_descriptors(context, live, target, switched, memory.renew, revived, outcome));
  TRY(context.terminals->restore(outcome.not_restored));
  TRY(apply_working_dirs(context, live, target, switched));
  TRY(apply_mappings(context, all, switched, memory.renew, revived, outcome));
  TRY(finish_shared_memory(context, memory, live, target, revived, outcome));
  TRY(apply_process_locks(context, live, target, outcome));
  for (ProcessWork& work : all) {
    HeldProcess& held = *work.held;
    work.pages = plan_pages(work.present->pages, work.wanted->pages, *work.wanted->mappings, work.remapped);
    TRY(drop_pages(held, work.pages.drops));
    TRY(apply_signals_and_attributes(context, held, *work.present, *work.wanted, outcome));
    // Once the signals of earlier expirations are gone.
    TRY(change_posix_timers(held, plan_posix_timers(*work.present, *work.wanted), outcome.not_restored));
    TRY(restore_kernel_pointers(held, *work.present, *work.wanted));
    const std::vector<Notice> lost = never_restored(*work.wanted);
    outcome.not_restored.insert(outcome.not_restored.end(), lost.begin(), lost.end());
  }
  TRY(apply_memory(context, all, outcome));
  for (ProcessWork& work : all) {
    TRY(apply_registers(*work.held, *work.present, *work.wanted, context.freeze->timed_calls()));
  }
  return {};
}

}  // namespace deltabox

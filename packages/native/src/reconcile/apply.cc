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
#include "reconcile/kinds/epoll.h"
#include "reconcile/lock_io.h"
#include "reconcile/map_file.h"
#include "reconcile/plan_attributes.h"
#include "reconcile/plan_posix_timers.h"
#include "reconcile/posix_timer_io.h"
#include "reconcile/preview.h"
#include "reconcile/shared_memory_io.h"
#include "reconcile/socket_io.h"
#include "sys/files.h"
#include "sys/processes.h"
#include "tracee/interrupted_calls.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr std::uint64_t kKernelSigsetBytes = 8;
constexpr int kMaxFlushRounds = 64;  // of 8 signals each; capture refuses more than 128 of a thread or group

std::uint64_t buffer_at(const HeldProcess& held, std::size_t offset) {
  return held.live->site.mapping.value + parasite::kBufferOffset + offset;
}

// Runs any number of calls; results stay in them.
Result<void> run_batched(parasite::Session& session, const parasite::Site& site, std::vector<Call>& calls) {
  for (std::size_t start = 0; start < calls.size(); start += parasite::kMaxCalls) {
    const std::size_t count = std::min(parasite::kMaxCalls, calls.size() - start);
    TRY(session.run(site, std::span(calls).subspan(start, count)));
  }
  return {};
}

Error failed_call(const HeldProcess& held, const char* operation, const Call& call) {
  return os_error_from(static_cast<int>(-call.result), operation, "pid " + std::to_string(held.live->inside.value));
}

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
  for (const UnmappedPart& lost : TRY(map_anew(held, plan.map, context.m1_root, free_slot_of(target), revived))) {
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
    TRY(map_anew(held, {substitute}, context.m1_root, free_slot_of(target), revived));
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

// --- Signals ---

// Takes all queued signals of the session's thread and its group, then queues those of the image. All are blocked.
Result<void> replace_pending(parasite::Session& session, const HeldProcess& held, bool anything_queued,
                             const std::vector<siginfo_t>& thread_signals,
                             const std::vector<siginfo_t>& group_signals) {
  const parasite::Site& site = held.live->site;
  struct {
    std::uint64_t set = ~std::uint64_t{0};
    timespec now{};
  } area;
  if (anything_queued) {
    TRY(session.write_buffer(site, 0, &area, sizeof area));
    for (int round = 0; round < kMaxFlushRounds; ++round) {
      std::vector<Call> calls(
          8, make_call(SYS_rt_sigtimedwait, buffer_at(held, 0), 0, buffer_at(held, 8), kKernelSigsetBytes));
      TRY(session.run(site, calls));
      if (calls.back().result == -EAGAIN) break;
    }
  }
  if (thread_signals.empty() && group_signals.empty()) return {};
  Call ids[2] = {make_call(SYS_getpid), make_call(SYS_gettid)};
  TRY(session.run(site, ids));
  const auto pid = static_cast<std::uint64_t>(ids[0].result);
  const auto tid = static_cast<std::uint64_t>(ids[1].result);
  const auto queue = [&](const siginfo_t& info, bool to_group) -> Result<void> {
    TRY(session.write_buffer(site, 0, &info, sizeof info));
    const auto signal = static_cast<std::uint64_t>(info.si_signo);
    Call call = to_group ? make_call(SYS_rt_sigqueueinfo, pid, signal, buffer_at(held, 0))
                         : make_call(SYS_rt_tgsigqueueinfo, pid, tid, signal, buffer_at(held, 0));
    TRY(session.run(site, {&call, 1}));
    if (call.result < 0) return failed_call(held, "queueing a signal in a tracee", call);
    return {};
  };
  for (const siginfo_t& info : thread_signals) TRY(queue(info, false));
  for (const siginfo_t& info : group_signals) TRY(queue(info, true));
  return {};
}

Result<bool> has_queued_signals(HostTid tid) {
  return !TRY(ptrace::pending_signals(tid, false)).empty() || !TRY(ptrace::pending_signals(tid, true)).empty();
}

// --- Addresses that the kernel writes to ---

constexpr std::uint64_t kRseqUnregister = 1;  // RSEQ_FLAG_UNREGISTER

bool same_rseq(const ThreadImage& live, const ThreadImage& target) {
  return live.kernel_pointers.rseq.rseq_abi_pointer == target.kernel_pointers.rseq.rseq_abi_pointer;
}

Result<void> call_rseq(parasite::Session& session, const HeldProcess& held, const abi::RseqConfiguration& rseq,
                       std::uint64_t flags) {
  if (rseq.rseq_abi_pointer == 0) return {};
  Call call = make_call(SYS_rseq, rseq.rseq_abi_pointer, rseq.rseq_abi_size, flags, rseq.signature);
  TRY(session.run(held.live->site, {&call, 1}));
  if (call.result < 0) return failed_call(held, "rseq in a tracee", call);
  return {};
}

// Runs `step` with a session of the thread: the leader's own or a short one.
template <typename Step>
Result<void> in_thread(HeldProcess& held, HostTid tid, Step step) {
  if (tid == held.session.tid()) return step(held.session);
  parasite::Session session = TRY(parasite::Session::begin(tid));
  session.keep_rseq_cs_from_memory();
  TRY(step(session));
  return session.finish();
}

// A thread whose rseq area is about to be unmapped would be killed on its next return to user space; one that had none
// yet will register it itself, and must find that free.
Result<void> forget_rseq(HeldProcess& held, const ProcessImage& live, const ProcessImage& target) {
  for (const ThreadImage& wanted : target.threads) {
    const ThreadImage* present = live.find_thread(wanted.inside);
    if (present == nullptr || same_rseq(*present, wanted)) continue;
    TRY(in_thread(held, present->tid, [&](parasite::Session& session) {
      return call_rseq(session, held, present->kernel_pointers.rseq, kRseqUnregister);
    }));
  }
  return {};
}

// Once the mappings are the target's.
Result<void> restore_kernel_pointers(HeldProcess& held, const ProcessImage& live, const ProcessImage& target) {
  for (const ThreadImage& wanted : target.threads) {
    const ThreadImage* present = live.find_thread(wanted.inside);
    if (present == nullptr) continue;
    const KernelPointers& before = present->kernel_pointers;
    const KernelPointers& pointers = wanted.kernel_pointers;
    std::vector<Call> calls;
    if (before.robust_list != pointers.robust_list) {
      calls.push_back(make_call(SYS_set_robust_list, pointers.robust_list, pointers.robust_list_bytes));
    }
    if (before.clear_child_tid != pointers.clear_child_tid) {
      calls.push_back(make_call(SYS_set_tid_address, pointers.clear_child_tid));
    }
    if (calls.empty() && same_rseq(*present, wanted)) continue;
    TRY(in_thread(held, present->tid, [&](parasite::Session& session) -> Result<void> {
      TRY(run_batched(session, held.live->site, calls));
      return same_rseq(*present, wanted) ? Result<void>() : call_rseq(session, held, pointers.rseq, 0);
    }));
  }
  return {};
}

// --- Attributes of the group and of one thread ---

Result<void> run_attributes(parasite::Session& session, const HeldProcess& held, AttributeBatch& batch,
                            ApplyOutcome& outcome) {
  if (batch.empty()) return {};
  TRY(session.write_buffer(held.live->site, 0, batch.buffer.data(), batch.buffer.size()));
  TRY(run_batched(session, held.live->site, batch.calls));
  for (std::size_t index = 0; index < batch.calls.size(); ++index) {
    if (batch.calls[index].result < 0) {
      outcome.not_restored.push_back({held.live->inside.value, batch.kinds[index],
                                      failed_call(held, "setting it back", batch.calls[index]).describe()});
    }
  }
  return {};
}

// --- One process ---

Result<void> apply_registers(HeldProcess& held, const ProcessImage& live, const ProcessImage& target) {
  for (const ThreadImage& thread : target.threads) {
    const ThreadImage* present = live.find_thread(thread.inside);
    if (present == nullptr) return make_error(Code::kInternal, "a thread of the target is not held");
    const ptrace::Registers registers = registers_to_roll_back(thread.registers, thread.timed_call);
    TRY(ptrace::set_extended_state(present->tid, thread.extended_state));
    if (present->tid == held.session.tid()) {
      held.session.replace_registers(registers);
      held.session.replace_signal_mask(thread.signal_mask);
      held.session.keep_rseq_cs_from_memory();
      held.session.drop_held_stop();
      continue;
    }
    TRY(ptrace::set_registers(present->tid, registers));
    TRY(ptrace::set_signal_mask(present->tid, thread.signal_mask));
  }
  return {};
}

// A file of /proc and no call. Only what was raised with privileges can't be lowered without them.
void apply_oom_score(const ApplyContext& context, const HeldProcess& held, const ProcessImage& live,
                     const ProcessImage& target, ApplyOutcome& outcome) {
  const std::int32_t wanted = target.attributes.oom_score_adjustment;
  if (live.attributes.oom_score_adjustment == wanted) return;
  const auto write = [&]() -> Result<void> {
    const std::string path = std::to_string(held.live->pid.value) + "/oom_score_adj";
    UniqueFd file = TRY(sys::open_at(context.proc_fd, path, O_WRONLY));
    const std::string text = std::to_string(wanted);
    return sys::write_all(file.get(), text.data(), text.size());
  };
  const Result<void> written = write();
  if (!written.ok()) outcome.not_restored.push_back({target.pid.value, "oom-score", written.error().describe()});
}

Result<void> apply_signals_and_attributes(ApplyContext& context, HeldProcess& held, const ProcessImage& live,
                                          const ProcessImage& target, ApplyOutcome& outcome) {
  // Scheduling before the limits by which it may be allowed.
  AttributeBatch batch(buffer_at(held, 0));
  plan_thread_attributes(live.threads.front(), target.threads.front(), batch);
  plan_process_attributes(live, target, batch);
  plan_thread_rights(live, live.threads.front(), target, target.threads.front(), batch);
  TRY(run_attributes(held.session, held, batch, outcome));
  apply_oom_score(context, held, live, target, outcome);
  const bool queued = TRY(has_queued_signals(held.session.tid()));
  TRY(replace_pending(held.session, held, queued, target.threads.front().pending, target.pending));
  for (std::size_t index = 1; index < target.threads.size(); ++index) {
    const ThreadImage& wanted = target.threads[index];
    const ThreadImage* present = live.find_thread(wanted.inside);
    if (present == nullptr) return make_error(Code::kInternal, "a thread of the target is not held");
    AttributeBatch thread_batch(buffer_at(held, 0));
    plan_thread_attributes(*present, wanted, thread_batch);
    plan_thread_rights(live, *present, target, wanted, thread_batch);
    const bool thread_queued = !TRY(ptrace::pending_signals(present->tid, false)).empty();
    if (thread_batch.empty() && !thread_queued && wanted.pending.empty()) continue;
    parasite::Session session = TRY(parasite::Session::begin(present->tid));
    session.keep_rseq_cs_from_memory();
    TRY(run_attributes(session, held, thread_batch, outcome));
    TRY(replace_pending(session, held, thread_queued, wanted.pending, {}));
    TRY(session.finish());
  }
  return {};
}

// A process keeps its own copies of pages of a file that was cut off below them, but a mapping made anew has no place
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

Result<void> apply_process_memory(ApplyContext& context, HeldProcess& held, const ProcessImage& target,
                                  const PagePlan& plan, bool mappings_changed, ApplyOutcome& outcome) {
  LiveProcess& live = *held.live;
  const Result<void> written = write_pages(context.proc_fd, live.pid, *target.mappings, plan.writes, *context.store);
  if (!written.ok()) {
    TRY(write_beyond_files(context, held, target, plan, outcome));
    mappings_changed = true;
  }
  live.pages = target.pages;
  live.mappings = mappings_changed ? TRY(list_mappings(context.proc_fd, live.pid, target.mappings)) : target.mappings;
  std::vector<ChangedRun> runs;
  for (const PageWrite& write : plan.writes) {
    if (!runs.empty() && runs.back().range.end == write.address) {
      runs.back().range.end += kPageSize;
    } else {
      runs.push_back({{write.address, write.address + kPageSize}, false});
    }
  }
  const int pagemap = TRY(live.files.get(ProcFile::kPageMap));
  Result<void> armed = live.tracker->protect(pagemap, *live.mappings, parasite_range(live), runs);
  // A range mapped anew is not registered yet; the next look finds that out by the same refusal and registers it.
  if (!armed.ok() && armed.error().os_errno != EPERM) return armed;
  return {};
}

// --- Descriptors of the tree ---

Result<UniqueFd> make_description(ApplyContext& context, const Description& wanted, HeldProcess& holder,
                                  RevivedFiles& revived, std::vector<std::string>& lost, ApplyOutcome& outcome) {
  if (wanted.kind == DescriptionKind::kTerminal) return context.terminals->open(wanted, holder);
  if (wanted.kind != DescriptionKind::kBoundary) {
    return open_description(wanted, context.m1_root, context.self_fd_dir, revived, lost);
  }
  Result<UniqueFd> opened = context.open_boundary(wanted);
  if (opened.ok()) return opened;
  // A slot that is closed would be given to the next file that is opened.
  outcome.not_restored.push_back({0, "stream", "a stream that leads out: " + opened.error().describe()});
  return sys::open_in_root(context.m1_root, "/dev/null", O_RDWR);
}

// Every description that is made is for a slot at least.
const SlotInstall& first_install_of(const DescriptorPlan& plan, std::uint32_t made) {
  return *std::find_if(plan.install.begin(), plan.install.end(),
                       [&](const SlotInstall& one) { return one.description == made; });
}

// What of an object could not be had again, said of the first slot that it is for.
void report_lost(const ApplyContext& context, const TreeImage& target, const DescriptorPlan& plan, std::uint32_t made,
                 const std::vector<std::string>& lost, ApplyOutcome& outcome) {
  const SlotInstall& install = first_install_of(plan, made);
  for (const std::string& part : lost) {
    outcome.not_restored.push_back({context.capture->find(install.process)->live->inside.value,
                                    target.descriptions[made].type,
                                    "descriptor " + std::to_string(install.fd) + ": " + part});
  }
}

Result<void> apply_descriptors(ApplyContext& context, const TreeImage& live, const TreeImage& target,
                               const std::set<int>& switched, const std::set<SharedObjectId>& renewed,
                               RevivedFiles& revived, ApplyOutcome& outcome) {
  DescriptorPlan plan = plan_descriptors(live, target, switched, renewed);
  outcome.not_restored.insert(outcome.not_restored.end(), plan.unrestorable.begin(), plan.unrestorable.end());
  std::map<std::uint32_t, UniqueFd> made;
  std::vector<UniqueFd> shared;  // closed again before anybody runs
  for (const std::uint32_t index : plan.make) {
    if (target.descriptions[index].socket) continue;  // once names and ports are free
    std::vector<std::string> lost;
    HeldProcess& holder = *context.capture->find(first_install_of(plan, index).process);
    Result<UniqueFd> opened = make_description(context, target.descriptions[index], holder, revived, lost, outcome);
    report_lost(context, target, plan, index, lost, outcome);
    if (opened.ok()) {
      made[index] = opened.release_value();
      continue;
    }
    for (const SlotInstall& install : plan.install) {
      if (install.description != index) continue;
      const HeldProcess* held = context.capture->find(install.process);
      outcome.not_restored.push_back({held->live->inside.value, target.descriptions[index].type,
                                      "descriptor " + std::to_string(install.fd) + ": " + opened.error().describe()});
      plan.close.push_back({install.process, install.fd});
    }
  }
  for (const SlotInstall& install : plan.install) {
    if (target.descriptions[install.description].socket) plan.close.push_back({install.process, install.fd});
  }
  std::map<Incarnation, std::vector<int>> closes;
  for (const SlotClose& close : plan.close) {
    const ProcessImage* process = live.find(close.process);
    const bool is_open = std::any_of(process->descriptors.begin(), process->descriptors.end(),
                                     [&](const DescriptorSlot& slot) { return slot.fd == close.fd; });
    if (is_open) closes[close.process].push_back(close.fd);
  }
  for (const auto& [incarnation, slots] : closes) TRY(close_descriptors(*context.capture->find(incarnation), slots));
  TRY(make_sockets(context, plan, target, made, outcome));
  std::map<Incarnation, std::vector<Install>> installs;
  for (const SlotShare& share : plan.share) {
    const HeldProcess* from = context.capture->find(share.from_process);
    UniqueFd shared_fd = TRY(sys::pidfd_get_fd(from->live->pidfd.get(), share.from_fd));
    installs[share.process].push_back({shared_fd.get(), share.fd, share.close_on_exec});
    shared.push_back(std::move(shared_fd));
  }
  for (const SlotInstall& install : plan.install) {
    const auto fd = made.find(install.description);
    if (fd != made.end()) installs[install.process].push_back({fd->second.get(), install.fd, install.close_on_exec});
  }
  for (const auto& [incarnation, list] : installs) {
    const ProcessImage* process = live.find(incarnation);
    const bool slots_are_open = std::all_of(list.begin(), list.end(), [&](const Install& install) {
      return std::any_of(process->descriptors.begin(), process->descriptors.end(),
                         [&](const DescriptorSlot& slot) { return slot.fd == install.slot; });
    });
    TRY(install_descriptors(*context.capture->find(incarnation), list,
                            slots_are_open && !closes.contains(incarnation)));
  }
  for (const SlotFlag& flag : plan.flags)
    TRY(set_descriptor_flag(*context.capture->find(flag.process), flag.fd, flag.close_on_exec));
  for (const DescriptionAdjust& adjust : plan.adjust) {
    const HeldProcess* held = context.capture->find(adjust.process);
    const Description& wanted = target.descriptions[adjust.description];
    const Result<void> adjusted = adjust_description(wanted, held->live->pidfd.get(), adjust.fd);
    if (!adjusted.ok()) {
      outcome.not_restored.push_back({held->live->inside.value, wanted.type,
                                      "descriptor " + std::to_string(adjust.fd) + ": " + adjusted.error().describe()});
    }
  }
  TRY(correct_sockets(context, plan, live, target, outcome));
  TRY(change_epolls(*context.capture, plan.epolls, outcome.not_restored));
  // Whatever was in their way has been closed.
  for (const auto& [index, file] : made) {
    const Result<void> locked = take_description_locks(file.get(), target.descriptions[index].locks);
    if (!locked.ok()) {
      outcome.not_restored.push_back({0, "lock", target.descriptions[index].path + ": " + locked.error().describe()});
    }
  }
  for (const PipeContents& wanted : target.pipes) {
    const auto present = std::find_if(live.pipes.begin(), live.pipes.end(),
                                      [&](const PipeContents& pipe) { return pipe.pipe == wanted.pipe; });
    if (present != live.pipes.end() && present->bytes == wanted.bytes) continue;
    const Result<void> refilled = replace_pipe_contents(context.self_fd_dir, wanted);
    if (!refilled.ok()) outcome.not_restored.push_back({0, "pipe", "its contents: " + refilled.error().describe()});
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
    TRY(apply_process_memory(context, held, wanted, pages, present.mappings != wanted.mappings, outcome));
    TRY(apply_registers(held, present, wanted));
  }
  return {};
}

}  // namespace deltabox

#include "reconcile/process_state.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include <string>
#include <vector>

#include "reconcile/plan_attributes.h"
#include "reconcile/remote_calls.h"
#include "sys/files.h"
#include "tracee/interrupted_calls.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr std::uint64_t kKernelSigsetBytes = 8;
constexpr int kMaxFlushRounds = 64;  // of 8 signals each; capture refuses more than 128 of a thread or group

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

}  // namespace

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

Result<void> apply_registers(HeldProcess& held, const ProcessImage& live, const ProcessImage& target,
                             TimedCalls& timed_calls) {
  for (const ThreadImage& thread : target.threads) {
    const ThreadImage* present = live.find_thread(thread.inside);
    if (present == nullptr) return make_error(Code::kInternal, "a thread of the target is not held");
    const ptrace::Registers registers = registers_to_roll_back(thread.registers, thread.timed_call);
    timed_calls.expect(present->tid, thread.registers, thread.timed_call);
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

}  // namespace deltabox

#include "reconcile/plan_attributes.h"

#include <linux/ioprio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>

#include "reconcile/plan_credentials.h"

namespace deltabox {

namespace {

using parasite::make_call;

constexpr std::uint64_t kKernelSigsetBytes = 8;

// What lies in a process's memory descriptor or signal structure.
void plan_prctl_state(const ProcessAttributes& live, const ProcessAttributes& target, AttributeBatch& batch) {
  if (live.child_subreaper != target.child_subreaper) {
    batch.add("child-subreaper", make_call(SYS_prctl, PR_SET_CHILD_SUBREAPER, target.child_subreaper));
  }
  if (live.huge_pages_off != target.huge_pages_off) {
    const std::uint64_t flags = target.huge_pages_off & ~1u;
    batch.add("huge-pages", make_call(SYS_prctl, PR_SET_THP_DISABLE, target.huge_pages_off != 0 ? 1 : 0, flags));
  }
  if (live.deny_write_execute != target.deny_write_execute) {
    batch.add("executable-memory", make_call(SYS_prctl, abi::kSetDenyWriteExecute, target.deny_write_execute));
  }
}

void plan_scheduling(const ThreadAttributes& live, const ThreadAttributes& target, AttributeBatch& batch) {
  if (live.scheduling != target.scheduling) {
    const std::uint64_t wanted = batch.place(&target.scheduling, sizeof target.scheduling);
    batch.add("scheduling", make_call(SYS_sched_setattr, 0, wanted, 0));
  }
  const bool is_known =
      std::any_of(target.cpus.begin(), target.cpus.end(), [](std::uint64_t word) { return word != 0; });
  if (live.cpus != target.cpus && is_known) {
    const std::uint64_t mask = batch.place(&target.cpus, sizeof target.cpus);
    batch.add("affinity", make_call(SYS_sched_setaffinity, 0, sizeof target.cpus, mask));
  }
  if (live.io_priority != target.io_priority) {
    batch.add("io-priority", make_call(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, target.io_priority));
  }
  if (live.timer_slack_ns != target.timer_slack_ns) {
    batch.add("timer-slack", make_call(SYS_prctl, PR_SET_TIMERSLACK, target.timer_slack_ns));
  }
}

}  // namespace

std::uint64_t AttributeBatch::place(const void* data, std::size_t size_bytes) {
  buffer.resize((buffer.size() + 15) / 16 * 16);
  const std::size_t offset = buffer.size();
  buffer.append(static_cast<const char*>(data), size_bytes);
  return buffer_address_ + offset;
}

void AttributeBatch::add(const char* kind, parasite::Call call) {
  calls.push_back(call);
  kinds.push_back(kind);
}

void plan_process_attributes(const ProcessImage& live, const ProcessImage& target, AttributeBatch& batch) {
  for (std::size_t index = 0; index < target.actions.size(); ++index) {
    if (live.actions[index] == target.actions[index]) continue;
    const std::uint64_t action = batch.place(&target.actions[index], sizeof(KernelSigaction));
    batch.add("signal-action", make_call(SYS_rt_sigaction, index + 1, action, 0, kKernelSigsetBytes));
  }
  for (std::uint64_t timer = 0; timer < target.timers.size(); ++timer) {
    const itimerval& before = live.timers[timer];
    const itimerval& wanted = target.timers[timer];
    if (std::memcmp(&before, &wanted, sizeof wanted) == 0) continue;
    batch.add("itimer", make_call(SYS_setitimer, timer, batch.place(&wanted, sizeof wanted), 0));
  }
  for (std::uint64_t limit = 0; limit < target.limits.size(); ++limit) {
    if (std::memcmp(&live.limits[limit], &target.limits[limit], sizeof(rlimit)) == 0) continue;
    batch.add("limit", make_call(SYS_prlimit64, 0, limit, batch.place(&target.limits[limit], sizeof(rlimit)), 0));
  }
  if (live.umask != target.umask) batch.add("umask", make_call(SYS_umask, target.umask));
  if (live.process_group != target.process_group) {
    batch.add("process-group", make_call(SYS_setpgid, 0, static_cast<std::uint64_t>(target.process_group)));
  }
  plan_prctl_state(live.attributes, target.attributes, batch);
}

void plan_thread_attributes(const ThreadImage& live, const ThreadImage& target, AttributeBatch& batch) {
  if (std::memcmp(&live.alternate_stack, &target.alternate_stack, sizeof(KernelAltStack)) != 0) {
    batch.add("alternate-stack",
              make_call(SYS_sigaltstack, batch.place(&target.alternate_stack, sizeof(KernelAltStack)), 0));
  }
  if (live.name != target.name) {
    batch.add("name", make_call(SYS_prctl, PR_SET_NAME, batch.place(target.name.data(), target.name.size())));
  }
  const ThreadAttributes& before = live.attributes;
  const ThreadAttributes& wanted = target.attributes;
  if (before == wanted) return;
  plan_scheduling(before, wanted, batch);
  if (before.personality != wanted.personality) {
    batch.add("personality", make_call(SYS_personality, wanted.personality));
  }
}

void plan_thread_rights(const ProcessImage& live, const ThreadImage& live_thread, const ProcessImage& target,
                        const ThreadImage& target_thread, AttributeBatch& batch) {
  const std::size_t before = batch.calls.size();
  plan_credentials(rights_of(live, live_thread), rights_of(target, target_thread), batch);
  const bool resets = batch.calls.size() != before;
  const std::uint32_t signal = target_thread.attributes.parent_death_signal;
  if (resets || live_thread.attributes.parent_death_signal != signal) {
    batch.add("parent-death-signal", make_call(SYS_prctl, PR_SET_PDEATHSIG, signal));
  }
  // Only the reset leads to the value of fs.suid_dumpable, which no call sets.
  const bool is_reset_value = resets && target.attributes.dumpable > 1;
  if ((resets || live.attributes.dumpable != target.attributes.dumpable) && !is_reset_value) {
    batch.add("dumpable", make_call(SYS_prctl, PR_SET_DUMPABLE, target.attributes.dumpable));
  }
}

}  // namespace deltabox

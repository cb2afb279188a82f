#include "reconcile/plan_one_way.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>

#include "reconcile/plan_credentials.h"

namespace deltabox {

namespace {

constexpr std::uint64_t kResetOnFork = 1;  // SCHED_FLAG_RESET_ON_FORK
constexpr std::int32_t kLowestPriority = 20;

bool is_real_time(const KernelScheduling& scheduling) {
  return scheduling.policy == SCHED_FIFO || scheduling.policy == SCHED_RR;
}

// RLIMIT_NICE counts from the lowest priority up.
bool limit_allows_nice(const ProcessImage& process, std::int32_t nice) {
  const rlim_t limit = process.limits[RLIMIT_NICE].rlim_cur;
  return limit == RLIM_INFINITY || static_cast<std::int64_t>(limit) >= kLowestPriority - nice;
}

// No task of a sandbox has CAP_SYS_NICE in the initial user namespace, so limits alone decide.
bool can_schedule(const ProcessImage& process, const KernelScheduling& from, const KernelScheduling& to) {
  if (from == to) return true;
  if ((from.flags & ~to.flags & kResetOnFork) != 0) return false;
  if (is_real_time(to)) {
    const bool raises = from.policy != to.policy || to.priority > from.priority;
    const rlim_t limit = process.limits[RLIMIT_RTPRIO].rlim_cur;
    return !raises || limit == RLIM_INFINITY || limit >= to.priority;
  }
  if (from.policy == SCHED_IDLE && to.policy != SCHED_IDLE && !limit_allows_nice(process, from.nice)) return false;
  return to.nice >= from.nice || limit_allows_nice(process, to.nice);
}

KernelScheduling inherited(const KernelScheduling& scheduling) {
  KernelScheduling child = scheduling;
  if ((scheduling.flags & kResetOnFork) == 0) return child;
  child.flags &= ~kResetOnFork;
  if (is_real_time(child)) {
    child.policy = SCHED_OTHER;
    child.priority = 0;
  }
  child.nice = std::max(child.nice, 0);
  return child;
}

// Every thread of the target, made from the one task.
bool all_can_come_from(const ProcessImage& origin, const Rights& rights, const KernelScheduling& scheduling,
                       const ProcessImage& target) {
  return std::all_of(target.threads.begin(), target.threads.end(), [&](const ThreadImage& thread) {
    return can_become(rights, rights_of(target, thread)) &&
           can_schedule(origin, scheduling, thread.attributes.scheduling);
  });
}

}  // namespace

bool can_be_what_it_was(const ProcessImage& live, const ProcessImage& target) {
  const ThreadImage& leader = live.threads.front();
  const std::uint32_t denies = live.attributes.deny_write_execute;
  if (denies != 0 && denies != target.attributes.deny_write_execute) return false;
  if (live.address_space != target.address_space) {
    return !live.attributes.hands_on_deny() &&
           all_can_come_from(live, after_exec(rights_of(live, leader)), leader.attributes.scheduling, target);
  }
  return std::all_of(target.threads.begin(), target.threads.end(), [&](const ThreadImage& wanted) {
    const ThreadImage* present = live.find_thread(wanted.inside);
    const KernelScheduling before =
        present != nullptr ? present->attributes.scheduling : inherited(leader.attributes.scheduling);
    return can_become(rights_of(live, present != nullptr ? *present : leader), rights_of(target, wanted)) &&
           can_schedule(live, before, wanted.attributes.scheduling);
  });
}

bool can_be_child_of(const ProcessImage& live_parent, const ProcessImage& target) {
  const ThreadImage& leader = live_parent.threads.front();
  return !live_parent.attributes.hands_on_deny() &&
         all_can_come_from(live_parent, after_exec(rights_of(live_parent, leader)),
                           inherited(leader.attributes.scheduling), target);
}

}  // namespace deltabox

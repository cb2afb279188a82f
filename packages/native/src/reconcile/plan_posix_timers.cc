#include "reconcile/plan_posix_timers.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace deltabox {

namespace {

// The processor time of the thread that made the timer, which the kernel does not tell.
constexpr std::int32_t kThreadClock = -2;

const PosixTimer* find_same(const std::vector<PosixTimer>& timers, const PosixTimer& wanted) {
  const auto found =
      std::find_if(timers.begin(), timers.end(), [&](const PosixTimer& timer) { return timer.same_kind(wanted); });
  return found != timers.end() ? &*found : nullptr;
}

}  // namespace

PosixTimerPlan plan_posix_timers(const ProcessImage& live, const ProcessImage& target) {
  PosixTimerPlan plan;
  for (const PosixTimer& present : live.posix_timers) {
    if (find_same(target.posix_timers, present) == nullptr) plan.remove.push_back(present);
  }
  for (const PosixTimer& wanted : target.posix_timers) {
    const PosixTimer* present = find_same(live.posix_timers, wanted);
    if (present != nullptr) {
      if (std::memcmp(&present->left, &wanted.left, sizeof wanted.left) != 0) plan.arm.push_back(wanted);
      continue;
    }
    if (wanted.clock == kThreadClock && target.threads.size() > 1) {
      plan.unrestorable.push_back({target.pid.value, "posix-timer",
                                   "timer " + std::to_string(wanted.id) +
                                       ": it measured the processor time of one thread, and which is not known"});
      continue;
    }
    plan.make.push_back(wanted);
    plan.arm.push_back(wanted);
  }
  return plan;
}

}  // namespace deltabox

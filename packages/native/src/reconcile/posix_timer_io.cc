#include "reconcile/posix_timer_io.h"

#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>

#include "sys/kernel_abi.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

// What one timer's calls point to.
struct Area {
  std::uint64_t value = 0;  // struct sigevent
  std::int32_t signal = 0;
  std::int32_t notify = 0;
  std::int32_t thread = 0;
  std::byte rest[44]{};
  std::int32_t id = 0;  // asked for, and answered
  std::int32_t padding = 0;
  itimerspec left{};
};
static_assert(offsetof(Area, id) == sizeof(sigevent));
constexpr std::size_t kAtOnce = 128;
static_assert(sizeof(Area) * kAtOnce <= parasite::kBufferBytes);

Area area_of(const PosixTimer& timer) {
  Area area;
  area.value = timer.value;
  area.signal = timer.signal;
  area.notify = timer.notify;
  area.thread = timer.thread.value;
  area.id = timer.id;
  area.left = timer.left;
  return area;
}

void report(const HeldProcess& held, const PosixTimer& timer, std::int64_t result, const char* operation,
            std::vector<Notice>& not_restored) {
  const Error error = os_error_from(static_cast<int>(-result), operation);
  not_restored.push_back(
      {held.live->inside.value, "posix-timer", "timer " + std::to_string(timer.id) + ": " + error.describe()});
}

// One call for each timer, over its area in the buffer.
template <typename MakeCall>
Result<void> for_each(HeldProcess& held, const std::vector<PosixTimer>& timers, const char* operation, MakeCall make,
                      std::vector<Notice>& not_restored) {
  std::span<const PosixTimer> rest(timers);
  while (!rest.empty()) {
    const std::span<const PosixTimer> some = rest.first(std::min(rest.size(), kAtOnce));
    rest = rest.subspan(some.size());
    std::vector<Area> areas;
    std::vector<Call> calls;
    const std::uint64_t buffer = held.live->site.mapping.value + parasite::kBufferOffset;
    for (const PosixTimer& timer : some) {
      calls.push_back(make(timer, buffer + areas.size() * sizeof(Area)));
      areas.push_back(area_of(timer));
    }
    TRY(held.session.write_buffer(held.live->site, 0, areas.data(), areas.size() * sizeof(Area)));
    TRY(held.session.run(held.live->site, calls));
    for (std::size_t index = 0; index < some.size(); ++index) {
      if (calls[index].result < 0) report(held, some[index], calls[index].result, operation, not_restored);
    }
  }
  return {};
}

std::uint64_t id_of(const PosixTimer& timer) { return static_cast<std::uint64_t>(timer.id); }

// Returns false where the kernel has no such switch, and ids are its own choice.
Result<bool> choose_ids(HeldProcess& held, bool on) {
  Call call = make_call(SYS_prctl, abi::kTimerRestoreIds, on ? 1 : 0);
  TRY(held.session.run(held.live->site, {&call, 1}));
  return call.result == 0;
}

}  // namespace

Result<void> change_posix_timers(HeldProcess& held, const PosixTimerPlan& plan, std::vector<Notice>& not_restored) {
  not_restored.insert(not_restored.end(), plan.unrestorable.begin(), plan.unrestorable.end());
  TRY(for_each(
      held, plan.remove, "timer_delete",
      [](const PosixTimer& timer, std::uint64_t) { return make_call(SYS_timer_delete, id_of(timer)); }, not_restored));
  if (!plan.make.empty()) {
    if (!TRY(choose_ids(held, true))) {
      for (const PosixTimer& timer : plan.make) {
        not_restored.push_back({held.live->inside.value, "posix-timer",
                                "timer " + std::to_string(timer.id) +
                                    ": this kernel can't make a timer with a number of ours (Linux 6.15 can)"});
      }
      return {};
    }
    TRY(for_each(
        held, plan.make, "timer_create",
        [](const PosixTimer& timer, std::uint64_t area) {
          return make_call(SYS_timer_create, static_cast<std::uint64_t>(timer.clock), area, area + offsetof(Area, id));
        },
        not_restored));
    (void)TRY(choose_ids(held, false));
  }
  return for_each(
      held, plan.arm, "timer_settime",
      [](const PosixTimer& timer, std::uint64_t area) {
        return make_call(SYS_timer_settime, id_of(timer), 0, area + offsetof(Area, left), 0);
      },
      not_restored);
}

}  // namespace deltabox

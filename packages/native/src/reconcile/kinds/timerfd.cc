#include "reconcile/kinds/timerfd.h"

#include <sys/ioctl.h>
#include <sys/timerfd.h>

namespace deltabox {

namespace {

constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
constexpr unsigned long kSetTicks = _IOW('T', 0, std::uint64_t);  // TFD_IOC_SET_TICKS, 3.17, CONFIG_CHECKPOINT_RESTORE

timespec to_timespec(std::uint64_t ns) {
  return {static_cast<time_t>(ns / kNsPerSecond), static_cast<long>(ns % kNsPerSecond)};
}

}  // namespace

Result<UniqueFd> make_timerfd(const TimerfdState& wanted) {
  UniqueFd made(::timerfd_create(wanted.clock, TFD_CLOEXEC));
  if (!made) return os_error("timerfd_create");
  TRY(correct_timerfd(made.get(), wanted));
  return made;
}

Result<void> correct_timerfd(int duplicate, const TimerfdState& wanted) {
  const itimerspec value{to_timespec(wanted.interval_ns), to_timespec(wanted.expiry_ns)};
  // Takes its unread expirations away.
  if (::timerfd_settime(duplicate, wanted.flags, &value, nullptr) != 0) return os_error("timerfd_settime");
  if (wanted.ticks != 0 && ::ioctl(duplicate, kSetTicks, &wanted.ticks) != 0) return os_error("TFD_IOC_SET_TICKS");
  return {};
}

}  // namespace deltabox

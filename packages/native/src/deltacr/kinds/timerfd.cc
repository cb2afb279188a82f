#include "deltacr/kinds/timerfd.h"

#include <sys/timerfd.h>

#include <ctime>

#include "deltacr/kinds/fdinfo.h"

namespace deltabox {

namespace {
constexpr std::uint64_t kNsPerSecond = 1'000'000'000;
std::uint64_t to_ns(const timespec& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * kNsPerSecond + static_cast<std::uint64_t>(time.tv_nsec);
}
}  // namespace

Result<TimerfdState> parse_timerfd(const std::string& fdinfo) {
  TimerfdState state;
  state.clock = static_cast<int>(TRY(fdinfo::number_of(fdinfo, "clockid", 10)));
  state.ticks = TRY(fdinfo::number_of(fdinfo, "ticks", 10));
  state.flags = static_cast<int>(TRY(fdinfo::number_of(fdinfo, "settime flags", 8)));
  const std::optional<std::string> interval = fdinfo::value_of(fdinfo, "it_interval");
  const auto parts = interval ? fdinfo::pair_of(*interval) : std::nullopt;
  if (!parts) return make_error(Code::kInternal, "fdinfo of a timerfd has no interval");
  state.interval_ns = parts->first * kNsPerSecond + parts->second;
  return state;
}

Result<std::uint64_t> time_left_ns(int duplicate) {
  itimerspec left{};
  if (::timerfd_gettime(duplicate, &left) != 0) return os_error("timerfd_gettime");
  return to_ns(left.it_value);
}

Result<void> set_expiry(TimerfdState& state, std::uint64_t left_ns) {
  state.expiry_ns = left_ns;
  if (left_ns == 0 || (state.flags & TFD_TIMER_ABSTIME) == 0) return {};
  timespec now{};
  if (::clock_gettime(state.clock, &now) != 0) return os_error("clock_gettime");
  state.expiry_ns += to_ns(now);
  return {};
}

}  // namespace deltabox

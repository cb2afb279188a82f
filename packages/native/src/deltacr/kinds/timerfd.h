// timerfd_create(2).
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace deltabox {

struct TimerfdState {
  int clock = 0;
  int flags = 0;  // of timerfd_settime(2): TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET
  // Of an armed timer, else 0: the time that is left; with TFD_TIMER_ABSTIME the time of the engine's clock.
  std::uint64_t expiry_ns = 0;
  std::uint64_t interval_ns = 0;
  std::uint64_t ticks = 0;  // expirations that nobody has read
  bool operator==(const TimerfdState&) const = default;
  bool is_armed() const { return expiry_ns != 0; }
};

// Without expiry_ns.
Result<TimerfdState> parse_timerfd(const std::string& fdinfo);
// A repeating timer that expired stands still until it is read or asked. Asked, it counts what it missed and goes on in
// its rhythm, as it would have when read; so this comes before its count of expirations is looked at.
Result<std::uint64_t> time_left_ns(int duplicate);
Result<void> set_expiry(TimerfdState& state, std::uint64_t left_ns);
// `duplicate`: of the descriptor. `read_fdinfo` is asked after the timer.
template <typename ReadFdinfo>
Result<TimerfdState> read_timerfd(int duplicate, ReadFdinfo read_fdinfo) {
  const std::uint64_t left_ns = TRY(time_left_ns(duplicate));
  TimerfdState state = TRY(parse_timerfd(TRY(read_fdinfo())));
  TRY(set_expiry(state, left_ns));
  return state;
}

}  // namespace deltabox

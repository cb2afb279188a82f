// Timers of timer_create(2): which a process has, by /proc/PID/timers (CONFIG_CHECKPOINT_RESTORE), and the time that is
// left of each.
#pragma once

#include <time.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace deltabox {

struct LiveProcess;
struct ProcessImage;
namespace parasite {
class Session;
}

struct PosixTimer {
  std::int32_t id = 0;
  std::int32_t clock = 0;   // as the kernel keeps it: clocks of processor time by their dynamic numbers
  std::int32_t notify = 0;  // SIGEV_*
  std::int32_t signal = 0;
  std::uint64_t value = 0;  // that comes with the signal
  InsidePid thread;         // with SIGEV_THREAD_ID
  itimerspec left{};        // time and interval; zero time: disarmed
  // The same in all that its creation says.
  bool same_kind(const PosixTimer& other) const;
};

// The text of /proc/PID/timers, with the time of each unknown and `thread` as the file has it.
std::vector<PosixTimer> parse_posix_timers(std::string_view text);

// Of a held process whose threads have been described.
Result<void> read_posix_timers(parasite::Session& leader, LiveProcess& live, ProcessImage& image);

}  // namespace deltabox

// Everything of a process but its memory and descriptors: registers, signals, timers, limits, credentials, names. One
// parasite trip for the group, one short trip for each further thread; those of several threads go on side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "deltacr/image.h"
#include "deltacr/live_process.h"
#include "parasite/session.h"
#include "tracee/freezer.h"
#include "tracee/interrupted_calls.h"

namespace deltabox {

// The group's trip, on its way.
struct DescribingTrip {
  std::vector<parasite::Call> calls;
  std::size_t first_fd_call = 0;
};

// In two halves, so that the trips of several processes go on while the engine does other work. `fds` are the process's
// open slots: the image gets them at once, and their close-on-exec flags with the second half. `handled_signals`: those
// that it catches or ignores.
Result<DescribingTrip> start_describing(parasite::Session& leader, const LiveProcess& live, TimedCalls& timed_calls,
                                        FrozenProcess& frozen, std::uint64_t handled_signals,
                                        const std::vector<int>& fds, ProcessImage& image);
Result<void> finish_describing(parasite::Session& leader, const LiveProcess& live, TimedCalls& timed_calls,
                               FrozenProcess& frozen, DescribingTrip& trip, ProcessImage& image);
// A thread that is not its group's leader.
Result<ThreadImage> describe_thread(const LiveProcess& live, TimedCalls& timed_calls, FrozenThread& frozen);

}  // namespace deltabox

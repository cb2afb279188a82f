// Everything of a process but its memory and descriptors: registers, signals, timers, limits, credentials, names. One
// parasite trip for the group, one short trip for each further thread.
#pragma once

#include "base/result.h"
#include "deltacr/image.h"
#include "deltacr/live_process.h"
#include "parasite/session.h"
#include "tracee/freezer.h"

namespace deltabox {

// Fills in the image from the leader's session; `fds` are the process's open slots, whose close-on-exec flags are asked
// in the same trip.
Result<void> describe_process(parasite::Session& leader, LiveProcess& live, const FrozenProcess& frozen,
                              const std::vector<int>& fds, ProcessImage& image);

// True when a signal will be delivered to the thread as soon as it runs.
bool signal_waiting(const ThreadImage& thread, const std::vector<siginfo_t>& group_pending);

}  // namespace deltabox

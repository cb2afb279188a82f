// Everything of a process but its memory and descriptors: registers, signals, timers, limits, credentials, names. One
// parasite trip for the group, one short trip for each further thread.
#pragma once

#include "base/result.h"
#include "deltacr/image.h"
#include "deltacr/live_process.h"
#include "parasite/session.h"
#include "tracee/freezer.h"
#include "tracee/interrupted_calls.h"

namespace deltabox {

// Fills in the image from the leader's session; `fds` are the process's open slots, whose close-on-exec flags are asked
// in the same trip.
Result<void> describe_process(parasite::Session& leader, const LiveProcess& live, TimedCalls& timed_calls,
                              FrozenProcess& frozen, const std::vector<int>& fds, ProcessImage& image);

}  // namespace deltabox

// Brings descriptors of the engine into frozen processes (SCM_RIGHTS, unix(7)), into all of them side by side, in two
// runs of each: one makes a pair of sockets; what is sent through it is received and put to use in the other. That is
// one run because the numbers under which descriptors arrive are known beforehand: the kernel gives the lowest that are
// free, and nobody else opens any while all stand still.
#pragma once

#include <functional>
#include <set>
#include <vector>

#include "base/result.h"
#include "deltacr/capture.h"
#include "parasite/session.h"

namespace deltabox {

// Of one process.
struct Delivery {
  HeldProcess* held = nullptr;
  std::vector<int> fds;  // of the engine, at most sys::kMaxFdsPerMessage
  // What to do with them, given their numbers inside and all numbers that are taken there then, these included. The
  // last use of a number closes it. At most kMostUses calls.
  std::function<std::vector<parasite::Call>(const std::vector<int>& numbers, const std::set<int>& taken)> use;
  std::vector<parasite::Call> calls;  // afterwards: these, with their results
};

// The first so many numbers from 0 on that are in no use, in order.
std::vector<int> lowest_free(const std::set<int>& taken, std::size_t count);

inline constexpr std::size_t kMostUses = parasite::kMaxCalls - 3;

// Fails when a process has no room (TOO_LARGE); results of calls are the caller's to look at.
Result<void> deliver(std::vector<Delivery>& deliveries);

}  // namespace deltabox

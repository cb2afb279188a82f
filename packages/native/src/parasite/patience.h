// A bound for what sleeps inside a run: a call that the engine did not know would sleep (a close that lingers, a file
// system that does not answer) must not hold all tasks of the sandbox still for good.
//
// While one lives, the thread that it waits for is interrupted (PTRACE_INTERRUPT) every kMaxSleepMs, by a timer of the
// engine's thread: what sleeps interruptibly returns as for a signal. What does not (a disk that is waited for) is
// waited for.
#pragma once

#include "base/ids.h"

namespace deltabox::parasite {

inline constexpr int kMaxSleepMs = 2'000;

// At most one at a time in each thread of the engine.
class Patience {
 public:
  explicit Patience(HostTid tid);
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;
  ~Patience();
  bool has_ended() const;
};

}  // namespace deltabox::parasite

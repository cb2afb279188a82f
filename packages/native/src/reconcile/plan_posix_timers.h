// What turns the POSIX timers of a living process into those of the target. Pure.
#pragma once

#include <vector>

#include "deltacr/image.h"

namespace deltabox {

struct PosixTimerPlan {
  std::vector<PosixTimer> remove;  // newer ones, and those that are of another kind by now
  std::vector<PosixTimer> make;    // under their ids
  std::vector<PosixTimer> arm;     // or disarm: what is made, and what runs in either state
  std::vector<Notice> unrestorable;
  bool empty() const { return remove.empty() && make.empty() && arm.empty(); }
};
PosixTimerPlan plan_posix_timers(const ProcessImage& live, const ProcessImage& target);

}  // namespace deltabox

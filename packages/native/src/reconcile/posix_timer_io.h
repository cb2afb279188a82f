// Removes, makes and arms POSIX timers of a held process whose threads are the target's.
#pragma once

#include <vector>

#include "base/result.h"
#include "deltacr/capture.h"
#include "reconcile/plan_posix_timers.h"

namespace deltabox {

Result<void> change_posix_timers(HeldProcess& held, const PosixTimerPlan& plan, std::vector<Notice>& not_restored);

}  // namespace deltabox

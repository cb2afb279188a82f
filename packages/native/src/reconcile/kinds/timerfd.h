#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/kinds/timerfd.h"

namespace deltabox {

Result<UniqueFd> make_timerfd(const TimerfdState& wanted);
Result<void> correct_timerfd(int duplicate, const TimerfdState& wanted);

}  // namespace deltabox

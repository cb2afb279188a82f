#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/kinds/signalfd.h"

namespace deltabox {

Result<UniqueFd> make_signalfd(const SignalfdState& wanted);
Result<void> correct_signalfd(int duplicate, const SignalfdState& wanted);

}  // namespace deltabox

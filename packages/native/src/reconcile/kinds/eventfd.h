#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/kinds/eventfd.h"

namespace deltabox {

Result<UniqueFd> make_eventfd(const EventfdState& wanted);
Result<void> correct_eventfd(int duplicate, const EventfdState& wanted);

}  // namespace deltabox

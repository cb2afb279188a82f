#pragma once

#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/capture.h"
#include "reconcile/plan.h"

namespace deltabox {

// Without entries: these need the descriptors in their places.
Result<UniqueFd> make_epoll();
// Adds or changes entries, each by a process that holds its epoll. Adds to `failed` what the kernel refused.
Result<void> change_epolls(TreeCapture& capture, const std::vector<EpollChange>& changes, std::vector<Notice>& failed);

}  // namespace deltabox

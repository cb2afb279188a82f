#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "deltacr/kinds/inotify.h"

namespace deltabox {

// A new instance whose watches have the same descriptors, on what is at their paths now, and an empty queue. Adds to
// `lost` what could not be watched again.
Result<UniqueFd> make_inotify(const InotifyState& wanted, int m1_root, int self_fd_dir, std::vector<std::string>& lost);
// Takes the events that came since.
Result<void> correct_inotify(int duplicate);

}  // namespace deltabox

// Takes the original of a published mirror away. See move_directory.h.
#pragma once

#include "base/result.h"
#include "renames/mirror.h"

namespace deltabox::renames {

// bin_fd: an empty directory on the same mount that only this call uses. Names go through it, so that what is removed
// is what was looked at, whoever replaces names meanwhile.
Result<void> sweep_tree(int from_fd, int to_fd, const MirroredDirectory& mirrored, int bin_fd);

}  // namespace deltabox::renames
